import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GatewayError } from "../../src/errors.ts";
import {
  decodeResponsesRequest,
  encodeResponsesRequest,
  type ResponsesTarget,
} from "../../src/wires/responses-body.ts";

const target: ResponsesTarget = {
  model: "gpt-real",
  outputTokensMax: undefined,
  previousResponseId: undefined,
  provider: "openai",
  params: { lacks: new Set(["store"]), drops: false, leavesOut: [], modifies: false },
};

function decoded(body: object | string) {
  const request = decodeResponsesRequest(Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
  if (request instanceof GatewayError) throw request;
  return request;
}

function faultOf(body: object | string): string | undefined {
  const request = decodeResponsesRequest(Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
  return request instanceof GatewayError ? (request.facts.param ?? request.code) : undefined;
}

test("what the gateway has to know is read", () => {
  const request = decoded({
    ...{ model: "m", input: "Hello", stream: true, max_output_tokens: 9, user: "u", service_tier: "flex" },
    ...{ metadata: { tags: ["a"] }, tags: ["b"], previous_response_id: "resp_x", num_retries: 1 },
  });
  const { wire, operation, stream, includeUsage, outputTokensMax, endUser, serviceTier, tags, repeat } = request;
  assert.deepEqual(
    { wire, operation, stream, includeUsage, outputTokensMax, endUser, serviceTier, tags, retries: repeat?.retries },
    {
      ...{ wire: "openai-responses", operation: "chat", stream: true, includeUsage: true, outputTokensMax: 9 },
      ...{ endUser: "u", serviceTier: "flex", tags: ["b", "a"], retries: 1 },
    },
  );
  assert.deepEqual([request.previousResponse, request.isStored], ["resp_x", true]);
  assert.equal(decoded({ model: "m", input: "Hello", store: false }).isStored, false);
});

test("the input is bounded: by its bytes, and by the most that what is only named can be", () => {
  const bound = (fields: object) => decoded({ model: "m", input: "x", ...fields }).inputTokensMax;
  const input = (item: object) => ({ input: [item] });
  assert.ok(bound({}) < 100);
  assert.ok(bound({ tools: [{ type: "function", name: "f" }] }) > 1_000);
  assert.ok(bound({ tools: [{ type: "web_search" }] }) > 500_000);
  assert.ok(bound({ prompt: { id: "pmpt_1" } }) > 500_000);
  assert.ok(bound(input({ role: "user", content: [{ type: "input_image", image_url: "http://x/y" }] })) > 50_000);
  assert.ok(bound(input({ role: "user", content: [{ type: "input_file", file_url: "http://x/y" }] })) > 500_000);
  assert.ok(bound(input({ type: "function_call_output", output: [{ type: "input_image", image_url: "u" }] })) > 50_000);
  assert.ok(bound(input({ type: "computer_call_output", output: { type: "computer_screenshot" } })) > 50_000);
  assert.ok(bound(input({ type: "item_reference", id: "msg_1" })) > 50_000);
  const { inputImages } = decoded({ model: "m", ...input({ role: "user", content: [{ type: "input_image" }] }) });
  assert.equal(inputImages, 1);
});

test("bad bodies are refused by the name of the field", () => {
  assert.equal(faultOf("{"), "invalid_json");
  assert.equal(faultOf({ input: "x" }), "model");
  assert.equal(faultOf({ model: "m" }), "input");
  assert.equal(faultOf({ model: "m", input: 7 }), "input");
  assert.equal(faultOf({ model: "m", input: "x", stream: "yes" }), "stream");
  assert.equal(faultOf({ model: "m", input: "x", store: "yes" }), "store");
  assert.equal(faultOf({ model: "m", input: "x", max_output_tokens: 1.5 }), "max_output_tokens");
  assert.equal(faultOf({ model: "m", input: "x", background: true }), "background");
  assert.equal(faultOf({ model: "m", input: "x", conversation: { id: "c" } }), "conversation");
  assert.equal(faultOf({ model: "m", input: "x", extra_body: {} }), "extra_body");
  assert.equal(faultOf('{"model":"m","input":"x","input":"y"}'), "input");
  assert.equal(faultOf({ model: "m", previous_response_id: "resp_1" }), undefined, "there may be nothing to add");
  assert.equal(faultOf({ model: "m", prompt: { id: "p" } }), undefined);
});

test("to the same wire every byte goes but those that must differ", () => {
  const body = `{ "model" : "m", "input": [ {"role":"user","content":"Gr\\u00fc\\u00df  Gott 1.0"} ],
    "x_unknown": {"kept": 1.50}, "store": true, "tags": ["t"], "metadata": {"a":"b","tags":["t"]}, "num_retries": 2,
    "previous_response_id": "resp_ours" }`;
  const target2 = { ...target, outputTokensMax: 77, previousResponseId: "resp_theirs" };
  assert.equal(
    encodeResponsesRequest(decoded(body), target2).toString(),
    `{ "model" : "gpt-real", "input": [ {"role":"user","content":"Gr\\u00fc\\u00df  Gott 1.0"} ],
    "x_unknown": {"kept": 1.50}, "store": true, "metadata": {"a":"b"},
    "previous_response_id": "resp_theirs","max_output_tokens":77 }`,
  );
});

test("whatever JSON a body holds, it is read or refused, and can be said in chat", () => {
  const member = fc.constantFrom(
    ...["input", "instructions", "tools", "tool_choice", "text", "reasoning", "include", "metadata", "prompt", "store"],
    ...["previous_response_id", "truncation", "parallel_tool_calls", "top_logprobs", "max_output_tokens"],
  );
  const item = fc.record(
    {
      type: fc.constantFrom("message", "function_call", "function_call_output", "reasoning", "item_reference", "x"),
      role: fc.constantFrom("user", "assistant", "system", 7, null),
      content: fc.jsonValue(),
      output: fc.jsonValue(),
      summary: fc.jsonValue(),
      encrypted_content: fc.constantFrom("tollgate.signature:s", "tollgate.redacted:r", "x", null),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.dictionary(member, fc.jsonValue()), fc.array(fc.oneof(item, fc.jsonValue())), (fields, input) => {
      const request = decodeResponsesRequest(Buffer.from(JSON.stringify({ model: "m", input, ...fields })));
      if (request instanceof GatewayError) return;
      assert.ok(Array.isArray(request.chat().messages));
      assert.ok(Array.isArray(request.unsayable?.()));
      assert.ok(Number.isFinite(request.inputTokensMax));
    }),
    { numRuns: 500 },
  );
});
