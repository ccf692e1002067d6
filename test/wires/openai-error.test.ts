import assert from "node:assert/strict";
import { test } from "node:test";
import { GatewayError } from "../../src/errors.ts";
import { encodeErrorBody, readComplaint } from "../../src/wires/openai-error.ts";

test("an error body has OpenAI's four members", () => {
  const error = new GatewayError("invalid_request", "`n` is wrong.", { param: "n", cause: new Error("hidden") });
  assert.deepEqual(JSON.parse(encodeErrorBody(error)), {
    error: { message: "`n` is wrong.", type: "invalid_request_error", param: "n", code: "invalid_request" },
  });
  assert.equal(JSON.parse(encodeErrorBody(new GatewayError("budget_exceeded", "No."))).error.param, null);
});

test("a provider's complaint is read in the shapes providers use", () => {
  assert.deepEqual(readComplaint({ error: { message: "no", type: "t", code: 42, param: "p" } }), {
    message: "no",
    type: "t",
    code: "42",
    param: "p",
  });
  assert.equal(readComplaint({ error: "plain" }).message, "plain");
  assert.equal(readComplaint({ detail: "fastapi" }).message, "fastapi");
  assert.equal(readComplaint({ object: "error", message: "vllm", code: 400 }).code, "400");
  assert.equal(readComplaint(undefined).message, "");
});

test("credentials are taken out of a provider's words, and a page of HTML is cut", () => {
  for (const secret of ["sk-proj-AbCdEf0123456789", "sk-abc***************wxyz", "AKIAIOSFODNN7EXAMPLE"]) {
    const { message } = readComplaint({ error: { message: `Incorrect API key provided: ${secret}. Try again.` } });
    assert.ok(!message.includes(secret), message);
    assert.ok(message.startsWith("Incorrect API key provided: "), message);
  }
  assert.ok(readComplaint({ error: "word ".repeat(10_000) }).message.length <= 500);
});
