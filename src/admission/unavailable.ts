import { CountersUnavailable } from "../counters/counters.ts";
import { GatewayError } from "../errors.ts";
import { AuthorityUnavailable } from "../keys/authority.ts";

/** What was thrown, as its caller sees it: 503 where a part that decides does not answer. */
export function unavailable(thrown: unknown): GatewayError {
  if (thrown instanceof AuthorityUnavailable) {
    return new GatewayError("keyservice_unavailable", "The key service cannot be reached. Try again shortly.", {
      retryAfterMs: 1000,
      cause: thrown,
    });
  }
  if (thrown instanceof CountersUnavailable) {
    return new GatewayError("counters_unavailable", "The rate limit store cannot be reached. Try again shortly.", {
      retryAfterMs: 1000,
      cause: thrown,
    });
  }
  return GatewayError.from(thrown);
}
