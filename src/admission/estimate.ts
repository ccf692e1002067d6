import type { CompletionRequest, Usage } from "../completion.ts";
import type { CountedTokens, Deployment } from "../config/config.ts";
import type { Limit } from "../keys/authority.ts";
import type { Bounds } from "../spend/cost.ts";

/** Of ordinary text, one token has about this many bytes. For limits, which are corrected after the call; never for money. */
const bytesPerToken = 4;

/**
 * How long each choice may become: the caller's cap, or else the longest default of the deployments it may reach, shortened to
 * what the key may use in a minute.
 *
 * @param limits the key's; `counted`: what those on tokens count.
 */
export function boundsOf(
  request: CompletionRequest,
  deployments: readonly Deployment[],
  limits: readonly Limit[],
  counted: CountedTokens = "total",
): Bounds {
  const { inputTokensMax, choiceCount, serviceTier } = request;
  const pieces = request.piecesMax ?? request.pieces;
  const asked = {
    ...{ inputTokensMax, choiceCount },
    ...(pieces !== undefined && { pieces }),
    ...(serviceTier !== undefined && { serviceTier }),
  };
  if (request.outputTokensMax !== undefined) return { ...asked, outputTokensMax: request.outputTokensMax };
  let outputTokensMax = Math.max(...deployments.map((deployment) => deployment.outputTokensMax));
  for (const { kind, ceiling } of limits) {
    if (kind !== "tokens" || counted === "input") continue;
    const forInput = counted === "total" ? likelyInputTokens(request) : 0;
    const fitting = Math.floor((ceiling - forInput) / choiceCount);
    outputTokensMax = Math.min(outputTokensMax, Math.max(1, fitting));
  }
  return { ...asked, outputTokensMax };
}

/** About how many tokens the input has. */
export function likelyInputTokens(request: CompletionRequest): number {
  return Math.ceil(request.inputTokensMax / bytesPerToken);
}

/** How many of a call's tokens limits count. */
export function countTokens(
  { inputTokens, outputTokens }: Pick<Usage, "inputTokens" | "outputTokens">,
  counted: CountedTokens,
): number {
  return (counted === "output" ? 0 : inputTokens) + (counted === "input" ? 0 : outputTokens);
}

/** What we assume was used when the provider reported nothing: the likely input, and the output that came. */
export function estimatedUsage(request: CompletionRequest, outputTokens: number): Usage {
  return {
    inputTokens: likelyInputTokens(request),
    outputTokens,
    cacheReadInputTokens: 0,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: 0,
    estimated: true,
  };
}

/** What a call is charged for: where the provider does not say, what was asked of it. */
export function billedUsage(usage: Usage, request: CompletionRequest): Usage {
  const serviceTier = usage.serviceTier ?? request.serviceTier;
  const pieces = request.pieces === undefined ? usage.pieces : { ...request.pieces, ...usage.pieces };
  return {
    ...usage,
    ...(serviceTier !== undefined && { serviceTier }),
    ...(pieces !== undefined && { pieces }),
  };
}
