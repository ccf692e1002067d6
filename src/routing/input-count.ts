import type { CompletionRequest } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import { GatewayError } from "../errors.ts";
import type { Provider } from "../providers/provider.ts";
import type { Candidate } from "./candidate.ts";
import { tokensFor } from "./context-window.ts";
import { boundsOfInput } from "./input-text.ts";
import type { Route } from "./router.ts";
import type { TokenCounter } from "./token-counter.ts";

/** What is counted, and by whom it may be. */
export interface InputToCount {
  readonly request: CompletionRequest;
  readonly route: Route;
  /** The best first. */
  readonly candidates: readonly Candidate[];
  readonly providerOf: (deployment: Deployment) => Provider;
  readonly tokens: Pick<TokenCounter, "count"> | undefined;
  readonly signal: AbortSignal;
}

/**
 * How many tokens a request's input has: as a provider counts that can be asked, else as they are counted here, for some models
 * by the ratio of bytes.
 *
 * @throws GatewayError if a provider says that there is no such request.
 */
export async function countInput(parts: InputToCount): Promise<number> {
  const { request, route, candidates, providerOf, tokens, signal } = parts;
  for (const { deployment, isProbe } of candidates) {
    // A probe's place is a call's.
    if (isProbe) continue;
    const times = { timeoutMs: deployment.timeoutMs, idleTimeoutMs: deployment.timeoutMs };
    const call = { request, deployment, ...times, outputTokensMax: undefined, traceparent: undefined, signal };
    try {
      const count = await providerOf(deployment).countTokens?.(call);
      if (count !== undefined) return count;
    } catch (thrown) {
      const failure = GatewayError.from(thrown);
      if (failure.kind.blame === "caller") throw failure;
    }
  }
  const [first] = route.deployments;
  if (first === undefined) throw new Error("a route without deployments");
  return tokensFor(first, boundsOfInput(request), tokens);
}
