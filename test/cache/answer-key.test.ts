import assert from "node:assert/strict";
import { test } from "node:test";
import { type AnswerOrigin, answerKey } from "../../src/cache/answer-key.ts";
import { GatewayError } from "../../src/errors.ts";
import { decodeMessagesRequest } from "../../src/wires/anthropic-body.ts";
import { neutralRequest, sampleRequest } from "../sample-call.ts";

function keyOf(fields: object = {}, facts: Partial<AnswerOrigin> = {}): string {
  return answerKey({
    ...{ request: sampleRequest(fields), modelGroup: "m", model: "m", outputTokensMax: undefined },
    ...{ audience: "", namespace: "" },
    ...facts,
  });
}

test("who asks, how the answer is sent and what speaks to the gateway make no other answer", () => {
  const same = [
    { user: "ann" },
    { metadata: { a: "b" } },
    { tags: ["t"] },
    { stream: true, stream_options: { include_usage: true } },
    { cache: { ttl: 5 } },
    { model: "an-alias" },
    { num_retries: 3, timeout: 5 },
    { litellm_call_id: "x" },
  ];
  for (const fields of same) assert.equal(keyOf(fields), keyOf(), JSON.stringify(fields));
  assert.match(keyOf(), /^[0-9a-f]{64}$/);
});

test("the order of members and the spelling of numbers and texts make no other answer", () => {
  const texts = [
    '{"model":"m","temperature":1,"messages":[{"role":"user","content":"é"}]}',
    '{ "messages" : [ {"role":"user","content":"\\u00e9"} ], "temperature": 1.0, "model":"m" }',
  ];
  const keys = texts.map((text) =>
    keyOf({}, { request: { ...sampleRequest(), raw: undefined, chat: () => JSON.parse(text) } }),
  );
  assert.equal(keys[0], keys[1]);
});

test("what a caller says in a wire's own words or headers counts, though the neutral form has none for it", () => {
  const asked = (fields: object, wireHeaders?: Record<string, string>) => {
    const body = { model: "m", max_tokens: 5, messages: [{ role: "user", content: "Hello" }], ...fields };
    const request = decodeMessagesRequest(Buffer.from(JSON.stringify(body)), { counts: false });
    assert.ok(!(request instanceof GatewayError));
    return keyOf({}, { request: wireHeaders === undefined ? request : { ...request, wireHeaders } });
  };
  const keys = [
    asked({}),
    asked({ output_config: { effort: "high" } }),
    asked({ output_config: { effort: "max" } }),
    asked({ context_management: { edits: [] } }),
    asked({}, { "anthropic-beta": "a" }),
  ];
  assert.equal(new Set(keys).size, keys.length);
  assert.equal(asked({ metadata: { user_id: "u" } }), keys[0]);
});

test("whatever may change an answer makes another one", () => {
  const others = [
    keyOf(),
    ...["temperature", "top_p", "seed", "n", "max_tokens", "max_completion_tokens", "top_k"].map((name) =>
      keyOf({ [name]: 1 }),
    ),
    ...[{ messages: [{ role: "user", content: "Hello " }] }, { messages: [{ role: "system", content: "Hello" }] }].map(
      (fields) => keyOf(fields),
    ),
    keyOf({ tools: [{ type: "function", function: { name: "f" } }] }),
    keyOf({ response_format: { type: "json_object" } }),
    keyOf({ response_format: { type: "json_schema", json_schema: { schema: { a: 1, b: 2 } } } }),
    keyOf({ response_format: { type: "json_schema", json_schema: { schema: { b: 2, a: 1 } } } }),
    keyOf({ a_member_nobody_knows: true }),
    keyOf({ guardrails: ["pii"] }),
    keyOf({}, { modelGroup: "other" }),
    keyOf({}, { modelGroup: "m/*", model: "m/1" }),
    keyOf({}, { modelGroup: "m/*", model: "m/2" }),
    keyOf({}, { outputTokensMax: 100 }),
    keyOf({}, { audience: "team 1" }),
    keyOf({}, { audience: "key 1" }),
    keyOf({}, { namespace: "n" }),
    keyOf({}, { request: neutralRequest() }),
  ];
  assert.equal(new Set(others).size, others.length);
  assert.match(keyOf({}, { namespace: "n" }), /^n:[0-9a-f]{64}$/);
});

test("members cannot be written so that two requests read as one", () => {
  assert.notEqual(keyOf({ a: 'x"\n"b":"y' }), keyOf({ a: "x", b: "y" }));
});
