import { GatewayError } from "../errors.ts";
import type { BudgetRefusal, Limit, Party, Rule } from "../keys/authority.ts";
import { formatUsd } from "../money.ts";
import type { Option } from "./option.ts";

/** Refusals are values up to here; this is where each becomes the error a caller sees, once. */

const unit = {
  requests: "requests per minute",
  tokens: "tokens per minute",
  parallel: "requests in parallel",
} as const;

/** A budget without room. Names the scope, the window and both figures, and never invites a retry. */
export function budgetExceeded(refusal: BudgetRefusal, needed: bigint): GatewayError {
  const { budget, spent, reserved, resetsAtMs } = refusal;
  const resets =
    resetsAtMs === undefined ? "It does not reset by itself." : `It resets at ${new Date(resetsAtMs).toISOString()}.`;
  const inFlight = reserved > 0n ? ` and $${formatUsd(reserved)} reserved by calls in flight` : "";
  const max = formatUsd(budget.max ?? 0n);
  const window = budget.window === undefined ? "" : ` (${budget.window} window)`;
  return new GatewayError(
    "budget_exceeded",
    `Budget has been exceeded! ${scopeName(budget.scope)}=${budget.scopeId}${window} ` +
      `Current cost: $${formatUsd(spent)}${inFlight}, ` +
      `Max budget: $${max}; this call may cost up to $${formatUsd(needed)}. ${resets}`,
    {
      metadata: {
        scope: budget.scope,
        scopeId: budget.scopeId,
        ...(budget.window === undefined ? {} : { window: budget.window }),
        spentUsd: formatUsd(spent),
        reservedUsd: formatUsd(reserved),
        maxUsd: max,
        neededUsd: formatUsd(needed),
        ...(resetsAtMs === undefined ? {} : { resetTime: new Date(resetsAtMs).toISOString() }),
      },
    },
  );
}

/** Of every deployment that was left a budget has no room: its own or its provider's. @param needed by the call. */
export function deploymentsSpent(
  modelGroup: string,
  { budget, spent, reserved, resetsAtMs }: BudgetRefusal,
  needed: bigint,
): GatewayError {
  const { scope, scopeId, window } = budget;
  const max = formatUsd(budget.max ?? 0n);
  const period = window === undefined ? "" : ` (${window} window)`;
  const inFlight = reserved > 0n ? ` and $${formatUsd(reserved)} reserved by calls in flight` : "";
  const resets = resetsAtMs === undefined ? "" : ` It resets at ${new Date(resetsAtMs).toISOString()}.`;
  return new GatewayError(
    "deployments_full",
    `No deployments available - crossed budget: ${scopeName(scope)}=${scopeId}${period} Current cost: $${formatUsd(spent)}${inFlight}, ` +
      `Max budget: $${max}; this call may cost up to $${formatUsd(needed)}.${resets}`,
    { retry: false, metadata: { model: modelGroup, scope, scopeId, maxUsd: max, spentUsd: formatUsd(spent) } },
  );
}

/** A limit without room. `retryAfterMs` is when it will have some. */
export function rateLimited(limit: Limit, retryAfterMs: number): GatewayError {
  const never = limit.ceiling <= 0;
  const hint = never
    ? "The limit allows nothing."
    : `Try again in ${(retryAfterMs / 1000).toFixed(retryAfterMs < 10_000 ? 1 : 0)} s.`;
  return new GatewayError(
    "rate_limit_exceeded",
    `Rate limit exceeded for ${limit.scope === "key" ? "api_key" : limit.scope}: ${limit.scopeId}. ` +
      `Limit type: ${limit.kind === "parallel" ? "max_parallel_requests" : limit.kind}. ` +
      `Current limit: ${limit.ceiling} ${unit[limit.kind]}. ${hint}`,
    {
      ...(never ? { retry: false } : { retryAfterMs }),
      metadata: { scope: limit.scope, scopeId: limit.scopeId, kind: limit.kind, limit: String(limit.ceiling) },
    },
  );
}

/**
 * No deployment has room for an attempt.
 *
 * @param shortage what each option lacked.
 */
export function deploymentsFull(
  options: readonly Option[],
  {
    full,
    retryAfterMs,
  }: { readonly full: readonly { readonly refused: { readonly name: string } }[]; readonly retryAfterMs: number },
): GatewayError {
  const group = options[0]?.deployment.modelGroup ?? "";
  const hint = `Try again in ${(retryAfterMs / 1000).toFixed(retryAfterMs < 10_000 ? 1 : 0)} s.`;
  if (full.every(({ refused }) => refused.name === "probe")) {
    return new GatewayError(
      "provider_unavailable",
      `No deployments available for model ${quoted(group)}: they have failed, and whether they are well again is being found out. ${hint}`,
      { retryAfterMs, metadata: { model: group } },
    );
  }
  return new GatewayError(
    "deployments_full",
    `No deployments available for model ${quoted(group)}: each is at a limit of its own. ${hint}`,
    { retryAfterMs, metadata: { model: group } },
  );
}

/** Another call has the caller's idempotency key. @param isUnderWay it has not been answered yet. */
export function duplicateRequest(isUnderWay: boolean): GatewayError {
  if (isUnderWay) {
    return new GatewayError(
      "duplicate_request",
      "A call with this Idempotency-Key is under way. Nothing was done; wait for its answer.",
      { retryAfterMs: 1_000 },
    );
  }
  return new GatewayError(
    "duplicate_request",
    "A call with this Idempotency-Key has been answered within the last hour. Nothing was done; answers are not kept. Send a new key to make another call.",
    { retry: false },
  );
}

/** The idempotency key was another request's. */
export function idempotencyKeyReused(): GatewayError {
  return new GatewayError(
    "idempotency_key_reused",
    "This Idempotency-Key belongs to another request. Nothing was done; send a new key with each new request, and the same body with the same key.",
  );
}

/** Something the key belongs to is blocked. */
export function blocked({ scope, scopeId }: Rule): GatewayError {
  return new GatewayError(
    "blocked_key",
    `${scopeName(scope)}=${scopeId} is blocked, and so are its keys. Ask your operator to unblock it.`,
    { metadata: { scope, scopeId } },
  );
}

/** Something the call names is blocked. */
export function partyBlocked({ scope, id }: Party): GatewayError {
  return new GatewayError(
    "permission_denied",
    `${scopeName(scope)}=${id} is blocked. Ask your operator to unblock it.`,
    {
      param: scope === "end_user" ? "user" : "tags",
      metadata: { scope, scopeId: id },
    },
  );
}

/** The key's whitelist lacks the model. The same whether or not the model exists. */
export function modelNotAllowed(model: string): GatewayError {
  return new GatewayError(
    "model_not_allowed",
    `Model ${quoted(model)} is not available for this API key. Ask GET /v1/models what is.`,
    { param: "model", metadata: { model: model.slice(0, 256) } },
  );
}

/** The configuration lacks the model. */
export function modelNotFound(model: string): GatewayError {
  return new GatewayError(
    "model_not_found",
    `Invalid model name passed in model=${quoted(model)}. Call \`/v1/models\` to view available models for your key.`,
    { param: "model", metadata: { model: model.slice(0, 256) } },
  );
}

function quoted(model: string): string {
  return JSON.stringify(model.length > 256 ? `${model.slice(0, 256)}...` : model);
}

function scopeName(scope: string): string {
  return scope
    .split("_")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
}
