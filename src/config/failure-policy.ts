import type { ByFailureClass, FailureClass } from "./config.ts";
import { section, whole } from "./fields.ts";

const failureClasses: readonly FailureClass[] = [
  "BadRequest",
  "Authentication",
  "Timeout",
  "RateLimit",
  "ContentPolicyViolation",
  "InternalServer",
  "ServiceUnavailable",
  "BadGateway",
  "NotFound",
];

/** What comes after the class in LiteLLM's names: `RateLimitErrorRetries`. */
type Suffix = "Retries" | "AllowedFails";

/** A figure for each class of failures, such as `RateLimitErrorRetries: 3`. */
export function failurePolicy(suffix: Suffix) {
  const figure = whole(0, 2).optional();
  return section(Object.fromEntries(failureClasses.map((name) => [`${name}Error${suffix}`, figure])));
}

/** The figures of such a policy by class. */
export function byClass(policy: Readonly<Record<string, unknown>> | undefined, suffix: Suffix): ByFailureClass {
  const figures: Partial<Record<FailureClass, number>> = {};
  for (const failureClass of failureClasses) {
    const figure = policy?.[`${failureClass}Error${suffix}`];
    if (typeof figure === "number") figures[failureClass] = figure;
  }
  return figures;
}
