import type { Caller, CompletionRequest, Json, JsonObject } from "../completion.ts";
import type { AnswerCacheConfig } from "../config/answer-cache-config.ts";
import { GatewayError } from "../errors.ts";
import { isNamespace, namespaceForm } from "../namespace.ts";

/** What becomes of one call's answer. */
export interface CacheTerms {
  /** Whether an answer that is kept will do. */
  readonly reads: boolean;
  /** Whether a new one may be kept. */
  readonly stores: boolean;
  readonly ttlMs: number;
  /** How old a kept one may be. */
  readonly maxAgeMs: number;
  readonly namespace: string;
}

/** The longest time to live, in seconds: a year. */
const secondsMax = 31_536_000;

/** LiteLLM's members of a request's `cache`, and what each says. */
const members: Readonly<Record<string, (value: Json, name: string) => Partial<Wishes>>> = {
  "no-cache": (value, name) => ({ isFresh: flagOf(value, name) }),
  "no-store": (value, name) => ({ isUnkept: flagOf(value, name) }),
  "use-cache": (value, name) => ({ uses: flagOf(value, name) }),
  ttl: (value, name) => ({ ttlMs: msOf(value, name) }),
  "s-maxage": (value, name) => ({ maxAgeMs: msOf(value, name) }),
  "s-max-age": (value, name) => ({ maxAgeMs: msOf(value, name) }),
  namespace: (value, name) => ({ namespace: namespaceOf(value, name) }),
};

/** What a call says of the cache. */
interface Wishes {
  readonly isFresh: boolean;
  readonly isUnkept: boolean;
  readonly uses: boolean;
  readonly ttlMs: number;
  readonly maxAgeMs: number;
  readonly namespace: string;
}

/**
 * What a call wants of the cache, by the `cache` in its body and the standard header.
 *
 * @param allowed the members its key may set; undefined: all. Of the header, which clients send without being asked, the others are
 *   ignored.
 * @returns undefined if it has nothing to do with the cache.
 * @throws GatewayError invalid_request, permission_denied.
 */
export function termsOf(
  request: CompletionRequest,
  { cacheControl }: Pick<Caller, "cacheControl">,
  allowed: readonly string[] | undefined,
  config: AnswerCacheConfig,
): CacheTerms | undefined {
  // What its provider keeps is its caller's alone.
  if (request.operation !== "chat" || request.isStored === true) return undefined;
  const kind = request.wire === "openai-responses" ? "responses" : "chat";
  if ((config.keepsOnly ?? kind) !== kind) return undefined;
  const given = request.chat().cache ?? undefined;
  const ofHeader = cacheControl === undefined ? {} : headerWishes(cacheControl, allowed);
  const wishes = { ...ofHeader, ...(given === undefined ? {} : bodyWishes(given, allowed)) };
  const { uses = config.isDefaultOn, isFresh = false, isUnkept = false } = wishes;
  const { ttlMs = config.ttlMs, maxAgeMs = Number.POSITIVE_INFINITY, namespace = config.namespace } = wishes;
  const reads = !isFresh && maxAgeMs > 0;
  const stores = !isUnkept && ttlMs > 0;
  return uses && (reads || stores) ? { reads, stores, ttlMs, maxAgeMs, namespace } : undefined;
}

function bodyWishes(given: Json, allowed: readonly string[] | undefined): Partial<Wishes> {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalid("cache", 'must be an object, such as {"no-cache": true}');
  }
  let wishes: Partial<Wishes> = {};
  for (const [name, value] of Object.entries(given as JsonObject)) {
    const read = Object.hasOwn(members, name) ? members[name] : undefined;
    const param = `cache.${name}`;
    if (read === undefined) throw invalid(param, `is not known; there are ${Object.keys(members).join(", ")}`);
    if (allowed?.includes(name) === false) {
      throw new GatewayError("permission_denied", `The key may not set \`${param}\`. Ask your operator to allow it.`, {
        param,
      });
    }
    if (value !== null) wishes = { ...wishes, ...read(value, param) };
  }
  return wishes;
}

/** `no-cache`, `no-store`, `max-age` and `s-maxage` of HTTP; the rest is for others. */
function headerWishes(header: string, allowed: readonly string[] | undefined): Partial<Wishes> {
  let wishes: Partial<Wishes> = {};
  for (const directive of header.toLowerCase().split(",")) {
    const [, word = "", seconds] = /^\s*([a-z-]+)(?:="?(\d{1,10})"?)?\s*$/.exec(directive) ?? [];
    const name = word === "max-age" ? "s-maxage" : word;
    if (allowed?.includes(name) === false) continue;
    if (name === "no-cache") wishes = { ...wishes, isFresh: true };
    else if (name === "no-store") wishes = { ...wishes, isUnkept: true };
    else if (name === "s-maxage" && seconds !== undefined) wishes = { ...wishes, maxAgeMs: Number(seconds) * 1000 };
  }
  return wishes;
}

function flagOf(value: Json, param: string): boolean {
  if (typeof value !== "boolean") throw invalid(param, "must be true or false");
  return value;
}

function msOf(value: Json, param: string): number {
  if (typeof value === "number" && value >= 0 && value <= secondsMax) return value * 1000;
  throw invalid(param, `must be a number of seconds, from 0 to ${secondsMax}`);
}

function namespaceOf(value: Json, param: string): string {
  if (typeof value === "string" && isNamespace(value)) return value;
  throw invalid(param, `must be ${namespaceForm}`);
}

function invalid(param: string, complaint: string): GatewayError {
  return new GatewayError("invalid_request", `\`${param}\` ${complaint}.`, { param });
}
