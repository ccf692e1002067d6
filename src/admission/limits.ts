import { hash } from "node:crypto";
import type { CompletionRequest, LimitState } from "../completion.ts";
import type { CountedTokens } from "../config/config.ts";
import { counterKey } from "../counters/claims.ts";
import type { Claim, Counters, Granted, Shortage } from "../counters/counters.ts";
import { peek } from "../counters/peek.ts";
import type { GatewayError } from "../errors.ts";
import type { Limit } from "../keys/authority.ts";
import type { Bounds } from "../spend/cost.ts";
import { countTokens, likelyInputTokens } from "./estimate.ts";
import type { Option } from "./option.ts";
import { alternativesOf, claimsAt, type FreePlace, placeAt } from "./place.ts";
import { deploymentsFull, duplicateRequest, idempotencyKeyReused, rateLimited } from "./refusals.ts";

const limitWindowMs = 60_000;
/** How long a parallel slot outlives a pod that died with it. */
const slotTtlMs = 30_000;
/** How long an answered call's idempotency key is remembered: longer than anybody retries, and short enough to be held in memory. */
const idempotencyMs = 3_600_000;
/** What an answered call is worth in its idempotency key's window: all of it. One that died with its pod leaves 1, and is in nobody's way. */
const answeredAmount = 2 ** 20;

/** A call's shares of limits. */
export interface LimitHold {
  /** How full the payer's limits are with it. */
  readonly limits: readonly LimitState[];
  /**
   * The call is over. Acts once.
   *
   * @param tokens what it really used.
   * @param isAnswered whether its caller has the whole answer: then no other call with its idempotency key may be made.
   */
  end(tokens: number, isAnswered: boolean): Promise<void>;
  /** The call is refused after all, and refused work costs nothing. */
  giveBack(): Promise<void>;
}

const nothingHeld: LimitHold = { limits: [], end: async () => {}, giveBack: async () => {} };

/** What a call asks of limits. */
export interface LimitAsk {
  readonly limits: readonly Limit[];
  readonly request: CompletionRequest;
  readonly bounds: Bounds;
  /** What limits on tokens count. */
  readonly counted: CountedTokens;
  /** The caller's, with the key's id before it; undefined: the call may be made as often as it likes. */
  readonly once: { readonly keyId: string; readonly idempotencyKey: string } | undefined;
  /** Where the first attempt may be made, the best first; at least one. */
  readonly options: readonly Option[];
}

/**
 * Takes a share of every limit of a payer and a place at the first deployment that has room, in one step, all or nothing; and, if the
 * caller gave an idempotency key, the right to be the one call with it.
 *
 * @throws GatewayError rate_limit_exceeded, duplicate_request, idempotency_key_reused, deployments_full; CountersUnavailable.
 */
export async function takeLimits(counters: Counters, ask: LimitAsk): Promise<{ hold: LimitHold; place: FreePlace }> {
  const { limits, options } = ask;
  const claims = [...claimsOf(ask), ...onceClaims(ask)];
  const alternatives = alternativesOf(options, tokensOf(ask, "total"));
  if (claims.length === 0 && alternatives === undefined) return { hold: nothingHeld, place: freePlace(options) };
  const verdict = await counters.take(claims, alternatives);
  if (verdict.ok) {
    const option = options[verdict.chosen ?? 0];
    if (option === undefined) throw new RangeError("a place nobody asked for was taken");
    return { hold: holdOf(limits, verdict), place: placeAt(option, verdict.chosenHold) };
  }
  if (verdict.refused === undefined) throw deploymentsFull(options, verdict);
  const index = claims.indexOf(verdict.refused);
  const limit = limits[index];
  if (limit !== undefined) throw rateLimited(limit, verdict.retryAfterMs);
  throw index - limits.length < onceSameClaims
    ? duplicateRequest(verdict.refused.kind === "slot")
    : idempotencyKeyReused();
}

/**
 * What `takeLimits` would come to, without taking anything: which of the payer's limits has no room, and what each option lacks.
 *
 * @throws CountersUnavailable.
 */
export async function foreseeLimits(
  counters: Counters,
  ask: Omit<LimitAsk, "once">,
): Promise<{ refusal: GatewayError | undefined; shortages: readonly (Shortage | undefined)[] }> {
  const { limits, options } = ask;
  const tokens = tokensOf(ask, ask.counted);
  const lists = [...claimsOf(ask).map((claim) => [claim]), ...options.map((option) => claimsAt(option, tokens))];
  const shortages = await peek(counters, lists);
  const refused = shortages.findIndex((shortage, index) => index < limits.length && shortage !== undefined);
  const [limit, shortage] = [limits[refused], shortages[refused]];
  const places = shortages.slice(limits.length);
  if (limit !== undefined && shortage !== undefined) {
    return { refusal: rateLimited(limit, shortage.retryAfterMs), shortages: places };
  }
  const full = places.filter((place) => place !== undefined);
  if (full.length < places.length || full.length === 0) return { refusal: undefined, shortages: places };
  const retryAfterMs = Math.min(...full.map((place) => place.retryAfterMs));
  return { refusal: deploymentsFull(options, { full, retryAfterMs }), shortages: places };
}

/** A place at the best option, of whose limits nothing is taken. */
export function freePlace([first]: readonly Option[]): FreePlace {
  if (first === undefined) throw new RangeError("a call is admitted to at least one deployment");
  return placeAt(first, undefined);
}

/** What a call may use, as limits count it. */
export function tokensOf({ request, bounds }: Pick<LimitAsk, "request" | "bounds">, counted: CountedTokens): number {
  const outputTokens = bounds.outputTokensMax * bounds.choiceCount;
  return countTokens({ inputTokens: likelyInputTokens(request), outputTokens }, counted);
}

function claimsOf(ask: Omit<LimitAsk, "once">): Claim[] {
  if (ask.limits.length === 0) return [];
  const tokens = tokensOf(ask, ask.counted);
  return ask.limits.map((limit) => {
    const one = oneOf(limit);
    if (one.kind === "slot" || limit.kind === "requests") return one;
    const { kind, group, name, ceiling, windowMs, key } = one;
    // A call that alone may exceed the limit waits for an empty window instead of being refused for ever.
    return { kind, group, name, ceiling, windowMs, key, amount: Math.min(tokens, Math.max(1, ceiling)) };
  });
}

/** Made once: each call of a key claims of the same limits. */
const knownOnes = new WeakMap<Limit, Claim & { readonly key: string }>();

/** One request, one call at a time, or one token of a limit. */
function oneOf(limit: Limit): Claim & { readonly key: string } {
  const known = knownOnes.get(limit);
  if (known !== undefined) return known;
  const { scope, scopeId, kind, ceiling } = limit;
  const place = { group: `${scope}:${scopeId}`, name: kind, ceiling };
  const claim: Claim =
    kind === "parallel"
      ? { kind: "slot", ...place, ttlMs: slotTtlMs }
      : { kind: "window", ...place, amount: 1, windowMs: limitWindowMs };
  const one = { ...claim, key: counterKey(claim) };
  knownOnes.set(limit, one);
  return one;
}

/** So many of the claims for an idempotency key are for it together with the request. */
const onceSameClaims = 2;

/**
 * One at a time, and one altogether once it is answered: first of the same request, then of any with the idempotency key, so that
 * what is refused tells which it was.
 */
function onceClaims({ once, request }: LimitAsk): Claim[] {
  if (once === undefined) return [];
  const { keyId, idempotencyKey } = once;
  const digest = (content: string | Buffer) => hash("sha256", content, "base64url");
  const key = digest(idempotencyKey);
  const body = digest(request.raw?.bytes ?? JSON.stringify(request.chat()));
  return [`${key}:${body}`, key].flatMap((name): Claim[] => {
    const place = { group: `idempotency:${keyId}`, name };
    return [
      { kind: "slot", ...place, ceiling: 1, ttlMs: slotTtlMs },
      { kind: "window", ...place, ceiling: answeredAmount, amount: 1, windowMs: idempotencyMs },
    ];
  });
}

function holdOf(limits: readonly Limit[], { hold, remaining }: Granted): LimitHold {
  return {
    limits: limits.map(({ scope, kind, ceiling }, index) => ({
      scope,
      kind,
      ceiling,
      remaining: remaining[index] ?? 0,
    })),
    end: (tokens, isAnswered) =>
      hold.release([...limits.map(({ kind }) => (kind === "tokens" ? tokens : undefined)), ...onceUsed(isAnswered)]),
    giveBack: () => hold.release([...limits.map(() => 0), ...onceUsed(false)]),
  };
}

/** Of the claims for an idempotency key, if there are any. */
function onceUsed(isAnswered: boolean): number[] {
  const used = isAnswered ? answeredAmount : 0;
  return [0, used, 0, used];
}
