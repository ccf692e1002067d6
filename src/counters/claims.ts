import type { Alternatives, Claim, Full, Shortage } from "./counters.ts";

/** Into how many buckets a window is cut: what has aged is forgotten at most this fraction of the window too late. */
const bucketsPerWindow = 60;

/** How long one bucket of a window is, in whole milliseconds. */
export function bucketWidthMs(windowMs: number): number {
  return Math.ceil(windowMs / bucketsPerWindow);
}

/** How much of its limit a claim asks for. */
export function amountOf(claim: Claim): number {
  return claim.kind === "window" ? claim.amount : 1;
}

/** Where a claim is counted. A window of another length is another counter. */
export function counterKey(claim: Claim): string {
  if (claim.key !== undefined) return claim.key;
  // The braces tell Redis Cluster to keep a group together: a brace inside would end them early, and empty ones say nothing.
  const group = claim.group.replace(/[{}%]/g, encodeURIComponent) || "%";
  return `tollgate:{${group}}:${claim.name}:${claim.kind === "window" ? claim.windowMs : "slots"}`;
}

/**
 * Stops a take with a claim no limit can be made of, before it spoils the counters of others.
 *
 * @throws RangeError naming the claim and the number at fault.
 */
export function checkTake(claims: readonly Claim[], alternatives: Alternatives | undefined): void {
  checkClaims(claims);
  if (alternatives === undefined) return;
  if (alternatives.length === 0) throw new RangeError("A take has no alternatives to choose from; leave them out.");
  for (const alternative of alternatives) checkClaims(alternative);
}

function checkClaims(claims: readonly Claim[]): void {
  for (const claim of claims) {
    const spanMs = claim.kind === "window" ? claim.windowMs : claim.ttlMs;
    if (!Number.isSafeInteger(amountOf(claim)) || amountOf(claim) < 0) fault(claim, "amount", amountOf(claim));
    if (!Number.isSafeInteger(claim.ceiling) || claim.ceiling < 0) fault(claim, "ceiling", claim.ceiling);
    if (!Number.isSafeInteger(spanMs) || spanMs <= 0) fault(claim, "time", spanMs);
  }
}

function fault(claim: Claim, what: string, value: number): never {
  throw new RangeError(
    `A claim on "${claim.group}:${claim.name}" has the ${what} ${value}; it must be a whole number.`,
  );
}

/** By how much a window must be changed when `used` came of a claim; 0 when it stays, as it does for slots. */
export function correctionOf(claim: Claim, used: number | undefined): number {
  if (claim.kind === "slot" || used === undefined || !Number.isFinite(used)) return 0;
  return Math.max(0, Math.ceil(used)) - claim.amount;
}

/** The answer when no alternative has room. */
export function allFull(full: readonly Shortage[], remaining: readonly number[]): Full {
  return {
    ok: false,
    refused: undefined,
    full,
    retryAfterMs: Math.min(...full.map(({ retryAfterMs }) => retryAfterMs)),
    remaining,
  };
}
