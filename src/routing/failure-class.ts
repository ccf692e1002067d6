import type { FailureClass } from "../config/config.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";

const classes: Readonly<Partial<Record<ErrorCode, FailureClass>>> = {
  provider_rejected: "BadRequest",
  context_length_exceeded: "BadRequest",
  content_policy_violation: "ContentPolicyViolation",
  provider_auth_failed: "Authentication",
  provider_model_not_found: "NotFound",
  provider_timeout: "Timeout",
  provider_rate_limited: "RateLimit",
  provider_unavailable: "ServiceUnavailable",
  stream_interrupted: "InternalServer",
};

/** What class a failed attempt is of, for policies; undefined: the provider had no part in it. */
export function failureClassOf(failure: GatewayError): FailureClass | undefined {
  if (failure.code !== "provider_error") return classes[failure.code];
  return failure.facts.metadata?.providerStatus === "502" ? "BadGateway" : "InternalServer";
}
