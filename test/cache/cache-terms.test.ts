import assert from "node:assert/strict";
import { test } from "node:test";
import { termsOf } from "../../src/cache/cache-terms.ts";
import type { Json } from "../../src/completion.ts";
import type { AnswerCacheConfig } from "../../src/config/answer-cache-config.ts";
import { GatewayError } from "../../src/errors.ts";
import { decodeResponsesRequest } from "../../src/wires/responses-body.ts";
import { sampleRequest } from "../sample-call.ts";

const config: AnswerCacheConfig = {
  ...{ redis: undefined, ttlMs: 60_000, namespace: "house", isDefaultOn: true, sharing: "all" },
};
const byDefault = { reads: true, stores: true, ttlMs: 60_000, maxAgeMs: Number.POSITIVE_INFINITY, namespace: "house" };

function terms(cache?: Json, parts: { header?: string; allowed?: string[]; config?: Partial<AnswerCacheConfig> } = {}) {
  const request = sampleRequest(cache === undefined ? {} : { cache });
  return termsOf(request, { cacheControl: parts.header }, parts.allowed, { ...config, ...parts.config });
}

function refusal(...args: Parameters<typeof terms>): [string, string | undefined] {
  try {
    terms(...args);
  } catch (error) {
    assert.ok(error instanceof GatewayError);
    return [error.code, error.facts.param];
  }
  throw new Error("it was not refused");
}

test("each member of `cache` says what LiteLLM's does", () => {
  assert.deepEqual(terms(), byDefault);
  assert.deepEqual(terms(null), byDefault);
  assert.deepEqual(terms({}), byDefault);
  assert.deepEqual(terms({ "no-cache": true }), { ...byDefault, reads: false });
  assert.deepEqual(terms({ "no-cache": false }), byDefault);
  assert.deepEqual(terms({ "no-store": true }), { ...byDefault, stores: false });
  assert.deepEqual(terms({ ttl: 1.5 }), { ...byDefault, ttlMs: 1500 });
  assert.deepEqual(terms({ ttl: 0 }), { ...byDefault, stores: false, ttlMs: 0 });
  assert.deepEqual(terms({ "s-maxage": 30 }), { ...byDefault, maxAgeMs: 30_000 });
  assert.deepEqual(terms({ "s-max-age": 30 }), { ...byDefault, maxAgeMs: 30_000 });
  assert.deepEqual(terms({ namespace: "mine" }), { ...byDefault, namespace: "mine" });
  assert.equal(terms({ "use-cache": false }), undefined);
  assert.equal(terms({ "no-cache": true, "no-store": true }), undefined);
});

test("responses take part where nothing is stored, and where the configuration keeps them", () => {
  const ask = (store: boolean, keepsOnly?: "chat" | "responses") => {
    const request = decodeResponsesRequest(Buffer.from(JSON.stringify({ model: "m", input: "Hello", store })));
    assert.ok(!(request instanceof GatewayError));
    return termsOf(request, { cacheControl: undefined }, undefined, { ...config, ...(keepsOnly && { keepsOnly }) });
  };
  assert.deepEqual([ask(false), ask(false, "responses")], [byDefault, byDefault]);
  assert.deepEqual([ask(true), ask(false, "chat")], [undefined, undefined]);
  assert.deepEqual(terms(undefined, { config: { keepsOnly: "chat" } }), byDefault);
  assert.equal(terms(undefined, { config: { keepsOnly: "responses" } }), undefined);
});

test("in mode default_off only calls that ask for it use the cache", () => {
  const off = { config: { isDefaultOn: false } };
  assert.equal(terms(undefined, off), undefined);
  assert.equal(terms({ ttl: 5 }, off), undefined);
  assert.deepEqual(terms({ "use-cache": true }, off), byDefault);
});

test("the standard header says the same, and the body goes before it", () => {
  assert.deepEqual(terms(undefined, { header: "no-cache" }), { ...byDefault, reads: false });
  assert.deepEqual(terms(undefined, { header: "max-age=0" }), { ...byDefault, reads: false, maxAgeMs: 0 });
  assert.deepEqual(terms(undefined, { header: "No-Store , s-maxage=7" }), {
    ...byDefault,
    stores: false,
    maxAgeMs: 7_000,
  });
  assert.deepEqual(terms(undefined, { header: 'private, stale-if-error, max-age="x"' }), byDefault);
  assert.deepEqual(terms({ "no-cache": false }, { header: "no-cache" }), byDefault);
});

test("a key may set what its allowed_cache_controls name", () => {
  const allowed = ["no-cache", "s-maxage"];
  assert.deepEqual(terms({ "no-cache": true }, { allowed }), { ...byDefault, reads: false });
  assert.deepEqual(refusal({ ttl: 5 }, { allowed }), ["permission_denied", "cache.ttl"]);
  assert.deepEqual(refusal({ namespace: "other" }, { allowed }), ["permission_denied", "cache.namespace"]);
  // Many clients send the header without being asked, so it refuses nobody.
  assert.deepEqual(terms(undefined, { header: "no-store, max-age=7", allowed }), { ...byDefault, maxAgeMs: 7_000 });
  assert.deepEqual(terms(undefined, { header: "no-cache", allowed: ["ttl"] }), byDefault);
});

test("what cannot be meant is refused with the member's name", () => {
  assert.deepEqual(refusal(true), ["invalid_request", "cache"]);
  assert.deepEqual(refusal(["no-cache"]), ["invalid_request", "cache"]);
  for (const [name, value] of [
    ["no_cache", true],
    ["no-cache", "yes"],
    ["ttl", -1],
    ["ttl", "5"],
    ["s-maxage", 1e12],
    ["namespace", "a b"],
    ["namespace", "a\r\nset-cookie: x"],
    ["namespace", "x".repeat(65)],
    ["constructor", 1],
  ] as const) {
    assert.deepEqual(refusal({ [name]: value }), ["invalid_request", `cache.${name}`]);
  }
});
