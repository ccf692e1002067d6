import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompletionRequest } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { decodeOperation, encodeOperation, type JsonOperation } from "../../src/wires/openai-operation.ts";
import { readOperationAnswer } from "../../src/wires/openai-operation-answer.ts";

function decode(operation: JsonOperation, body: string | object): CompletionRequest {
  const read = decodeOperation(operation, Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
  if (read instanceof GatewayError) throw read;
  return read;
}

function encode(operation: JsonOperation, body: string | object, outputTokensMax?: number): string {
  return encodeOperation(decode(operation, body), { model: "theirs", outputTokensMax }).body.toString();
}

function faultOf(operation: JsonOperation, body: string | object): [string, string | undefined] {
  const read = decodeOperation(operation, Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
  assert.ok(read instanceof GatewayError);
  return [read.code, read.facts.param];
}

test("a body passes byte for byte but for the model and what speaks to the gateway", () => {
  const body = `{ "input" : ["a", "b"],"tags":["t"], "model":"ours", "odd":1e5 ,"encoding_format":"base64"}`;
  assert.equal(
    encode("embeddings", body),
    `{ "input" : ["a", "b"], "model":"theirs", "odd":1e5 ,"encoding_format":"base64"}`,
  );
  assert.deepEqual(decode("embeddings", body).tags, ["t"]);
});

test("embeddings, moderations and rankings have no output to be reserved for", () => {
  const body = { model: "m", input: "x", query: "x", max_tokens: 99, n: 5, stream: true };
  for (const operation of ["embeddings", "moderation", "rerank"] as const) {
    const { outputTokensMax, choiceCount, stream } = decode(operation, body);
    assert.deepEqual([outputTokensMax, choiceCount, stream], [0, 1, false], operation);
  }
});

test("of plain completions every prompt has its choices, and the best of them are paid for", () => {
  const choices = (fields: object) => decode("text_completion", { model: "m", prompt: "x", ...fields }).choiceCount;
  assert.equal(choices({}), 1);
  assert.equal(choices({ n: 3 }), 3);
  assert.equal(choices({ n: 2, best_of: 4, prompt: ["a", "b", "c"] }), 12);
  assert.equal(choices({ prompt: [1, 2, 3] }), 1, "one prompt in tokens");
  assert.equal(choices({ prompt: [[1, 2], [3]] }), 2);
});

test("a plain completion is sent our cap where it has none, and made to report its usage", () => {
  assert.equal(
    encode("text_completion", `{"model":"m","prompt":"x"}`, 50),
    `{"model":"theirs","prompt":"x","max_tokens":50}`,
  );
  assert.equal(
    encode("text_completion", `{"model":"m","prompt":"x","max_tokens":7}`, 50),
    `{"model":"theirs","prompt":"x","max_tokens":7}`,
  );
  assert.equal(
    encode("text_completion", `{"model":"m","prompt":"x","stream":true}`),
    `{"model":"theirs","prompt":"x","stream":true,"stream_options":{"include_usage":true}}`,
  );
});

test("a moderation without a model has OpenAI's own", () => {
  assert.equal(decode("moderation", { input: "x" }).model, "omni-moderation-latest");
  assert.equal(encode("moderation", `{"input":"x"}`), `{"input":"x","model":"theirs"}`);
});

test("what is missing or decided elsewhere is refused by name", () => {
  assert.deepEqual(faultOf("embeddings", { input: "x" }), ["invalid_request", "model"]);
  assert.deepEqual(faultOf("embeddings", { model: "m" }), ["invalid_request", "input"]);
  assert.deepEqual(faultOf("rerank", { model: "m", documents: ["a"] }), ["invalid_request", "query"]);
  assert.deepEqual(faultOf("embeddings", { model: "m", input: "x", api_base: "http://x" }), [
    "invalid_request",
    "api_base",
  ]);
  assert.deepEqual(faultOf("embeddings", `{"model":"a","input":"x","model":"b"}`), ["invalid_request", "model"]);
  assert.deepEqual(faultOf("text_completion", { model: "m", prompt: "x", n: 0 }), ["invalid_request", "n"]);
  assert.deepEqual(faultOf("embeddings", "[1"), ["invalid_json", undefined]);
});

test("usage is read wherever servers put it", () => {
  const inputOf = (operation: JsonOperation, body: object) => {
    const read = readOperationAnswer(operation, Buffer.from(JSON.stringify(body)));
    if (read instanceof GatewayError) throw read;
    return read.usage?.inputTokens;
  };
  assert.equal(inputOf("embeddings", { data: [], usage: { prompt_tokens: 8, total_tokens: 8 } }), 8);
  assert.equal(inputOf("rerank", { results: [], usage: { total_tokens: 9 } }), 9);
  assert.equal(inputOf("rerank", { results: [], meta: { billed_units: { input_tokens: 7 } } }), 7);
  assert.equal(inputOf("rerank", { results: [], meta: { tokens: { input_tokens: 6 } } }), 6);
  assert.equal(inputOf("moderation", { results: [] }), undefined);
});

test("what is no answer is an error", () => {
  for (const body of ["<html>", "[]", '{"error":{"message":"overloaded"}}']) {
    assert.ok(readOperationAnswer("embeddings", Buffer.from(body)) instanceof GatewayError, body);
  }
});
