import type { CompletionRequest } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import type { Check, Overflows } from "./candidate.ts";
import { boundsOfInput, type InputBounds } from "./input-text.ts";
import type { TokenCounter } from "./token-counter.ts";
import type { Encoding } from "./token-counter-worker.ts";

/**
 * Of models whose tokens we cannot count, one has about this many bytes of ordinary text, and rather fewer: a call that fits goes
 * through, and of those that do not, the few in between are refused by the provider.
 */
const bytesPerToken = 4;

const none: Overflows = new Map();

/**
 * Finds the deployments that an input does not fit into. Mostly its length in bytes decides, for no input has more tokens than
 * bytes; sometimes its number of words, for none has fewer. Only between the two are tokens counted, and not by this thread. Images,
 * audio and files do not count, for each model makes something else of them.
 *
 * @param tokens undefined where none are to be counted: then the ratio of bytes decides.
 */
export async function findOverflows(
  request: CompletionRequest,
  deployments: readonly Deployment[],
  tokens: Pick<TokenCounter, "count"> | undefined,
): Promise<Overflows> {
  const open = deployments.filter(
    ({ contextTokens = Number.POSITIVE_INFINITY }) => request.inputTokensMax > contextTokens,
  );
  if (open.length === 0) return none;
  const bounds = boundsOfInput(request);
  const overflows = new Map<Deployment, number>();
  for (const deployment of open) {
    const fitting = deployment.contextTokens ?? Number.POSITIVE_INFINITY;
    if (bounds.bytes <= fitting) continue;
    const length = bounds.words > fitting ? bounds.words : await tokensFor(deployment, bounds, tokens);
    if (length > fitting) overflows.set(deployment, length);
  }
  return overflows;
}

/** About how many tokens an input has for a deployment's model: exactly where its tokens can be counted here. */
export async function tokensFor(
  deployment: Deployment,
  { texts, bytes }: InputBounds,
  tokens: Pick<TokenCounter, "count"> | undefined,
): Promise<number> {
  const encoding = encodingOf(deployment.model);
  const counted = encoding && (await tokens?.count(encoding, texts));
  return counted ?? Math.ceil(bytes / bytesPerToken);
}

/** OpenAI's models have one of two encodings. */
function encodingOf(model: string): Encoding | undefined {
  const name = model.slice(model.lastIndexOf("/") + 1).toLowerCase();
  if (/^(gpt-(4o|4\.|[5-9]|oss|audio|realtime)|chatgpt-|codex-|o[1-9]\b)/.test(name)) return "o200k_base";
  return /^gpt-(4|3\.5|35)\b/.test(name) ? "cl100k_base" : undefined;
}

/** Passes over deployments that the input does not fit into, as far as that has been asked. */
export const contextWindowCheck: Check = (deployment, { overflows }) => {
  const tokens = overflows?.get(deployment);
  if (tokens === undefined) return undefined;
  const detail = `it has at least or about ${tokens} tokens, and ${deployment.contextTokens} fit`;
  return { deployment, reason: "context_window", detail };
};
