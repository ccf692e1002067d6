import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GatewayError } from "../../src/errors.ts";
import { readResponse } from "../../src/wires/responses-answer.ts";
import { ResponseStreamReader } from "../../src/wires/responses-stream.ts";
import { framesOf } from "../responses-server.ts";
import { allCuts, cutAt, readPieces } from "./reading.ts";

const text = 'Grüß Gott 🚀\n\nevent: x\ndata: [DONE]\n\n "q"';
const usage = {
  ...{ input_tokens: 40, output_tokens: 25, total_tokens: 65 },
  input_tokens_details: { cached_tokens: 30 },
  output_tokens_details: { reasoning_tokens: 20 },
};
const output = [
  { id: "rs_1", type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }] },
  {
    ...{ id: "msg_1", type: "message", role: "assistant", status: "completed" },
    content: [{ type: "output_text", text, annotations: [], logprobs: [] }],
  },
  { id: "fc_1", type: "function_call", status: "completed", call_id: "call_1", name: "f", arguments: '{"a":"ü"}' },
];
const response = {
  ...{
    id: "resp_theirs",
    object: "response",
    created_at: 1.7e9,
    status: "completed",
    error: null,
    x_unknown: { a: 1.5 },
  },
  ...{ model: "gpt-real", output, previous_response_id: "resp_before", service_tier: "flex", usage },
};
const frames = framesOf(response, output);
const names = { nameOf: (id: string) => `resp_named_${id}`, previous: "resp_ours" };
const renamed = (body: string) =>
  body.replaceAll('"resp_theirs"', '"resp_named_resp_theirs"').replaceAll('"resp_before"', '"resp_ours"');
const used = {
  ...{ inputTokens: 40, outputTokens: 25, cacheReadInputTokens: 30, cacheWriteInputTokens: 0 },
  ...{ reasoningOutputTokens: 20, serviceTier: "flex", estimated: false },
};

function read(pieces: readonly Buffer[], withNames: typeof names | object = names) {
  const { events, failure } = readPieces(new ResponseStreamReader(withNames), pieces);
  const end = events.find((event) => event.type === "end");
  const raws = events.flatMap((event) => (event.type === "raw" ? [event] : []));
  const body = Buffer.concat([...raws.map(({ bytes }) => bytes), end?.raw ?? Buffer.alloc(0)]).toString();
  return { body, end, failure, outputTokens: raws.reduce((sum, each) => sum + each.outputTokens, 0) };
}

test("frames pass as they are but for the ids, wherever the network cut them, and usage is read", () => {
  for (const pieces of allCuts(Buffer.from(frames))) {
    const { body, end, failure, outputTokens } = read(pieces);
    assert.equal(failure, undefined);
    assert.equal(body, renamed(frames));
    assert.deepEqual([end?.usage, end?.responseId], [used, "resp_theirs"]);
    assert.ok(outputTokens > 10);
  }
});

test("the frame that ends the response is held back, so that it is booked before it leaves", () => {
  const last = frames.slice(frames.indexOf("event: response.completed"));
  assert.equal(read([Buffer.from(frames)]).end?.raw?.toString(), renamed(last));
});

test("what is not stored keeps its provider's ids, byte for byte", () => {
  assert.equal(read([Buffer.from(frames)], {}).body, frames);
});

test("other ends of lines, comments, events nobody knows and an end without a blank line are taken", () => {
  const odd = `: hello\n\nevent: response.new\ndata: {"type":"response.new","x":1}\n\n${frames}`.replaceAll(
    "\n",
    "\r\n",
  );
  const { body, failure } = read([Buffer.from(odd.trimEnd())]);
  assert.equal(failure, undefined);
  assert.ok(body.includes('data: {"type":"response.new","x":1}\r\n'));
  assert.ok(body.includes("resp_named_resp_theirs"));
  const split = frames.replace('"sequence_number":0,', '"sequence_number":0,\ndata: ');
  assert.equal(read([Buffer.from(split)]).failure, undefined);
  assert.ok(read([Buffer.from(split)]).body.startsWith("event: response.created\ndata: {"));
});

test("an incomplete response is whole, one that failed or broke off is not", () => {
  const head = frames.slice(0, frames.indexOf("event: response.output_item.added"));
  const ending = (type: string, fields: object) => `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
  const codeOf = (body: string) => read([Buffer.from(body)]).failure?.code;
  const incomplete = { ...response, status: "incomplete", incomplete_details: { reason: "max_output_tokens" } };
  const cut = read([Buffer.from(head + ending("response.incomplete", { response: incomplete }))]);
  assert.deepEqual([cut.failure, cut.end?.usage], [undefined, used]);
  const failed = { ...response, status: "failed", error: { code: "rate_limit_exceeded", message: "slow down" } };
  assert.equal(codeOf(head + ending("response.failed", { response: failed })), "provider_rate_limited");
  assert.equal(
    codeOf(head + ending("error", { code: "context_length_exceeded", message: "x" })),
    "context_length_exceeded",
  );
  assert.equal(codeOf(head + ending("error", { error: { type: "server_error", message: "x" } })), "provider_error");
  assert.equal(codeOf('data: {"error":{"code":"429","message":"x"}}\n\n'), "provider_rate_limited");
  assert.equal(codeOf(head), "stream_interrupted");
  assert.equal(codeOf(`${head}data: [DONE]\n\n`), "stream_interrupted");
  assert.equal(codeOf(`${head}data: {"type":\n\n`), "provider_error");
  assert.equal(codeOf(""), "provider_error");
});

test("a stream cut anywhere is interrupted, and mutated or random bytes end in an error or an answer, never in a crash", () => {
  const bytes = Buffer.from(frames);
  const last = frames.indexOf("event: response.completed");
  for (let at = 0; at < Buffer.byteLength(frames.slice(0, last)); at += 7) {
    const code = read([bytes.subarray(0, at)]).failure?.code;
    assert.ok(code === "stream_interrupted" || code === "provider_error", String(code));
  }
  const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 5 });
  const change = fc.record({ at: fc.nat(bytes.length - 1), byte: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 4 }), places, (changes, cuts) => {
      const mutated = Buffer.from(bytes);
      for (const { at, byte } of changes) mutated[at] = byte;
      const { end, failure } = read(cutAt(mutated, cuts));
      assert.ok((end === undefined) !== (failure === undefined));
    }),
    { numRuns: 300 },
  );
});

test("a whole answer passes byte for byte but for its ids; unknown fields survive", () => {
  const body = JSON.stringify(response, undefined, 2);
  const answer = readResponse(Buffer.from(body), names);
  assert.ok(!(answer instanceof GatewayError));
  assert.equal(answer.bytes.toString(), renamed(body));
  assert.deepEqual([answer.usage, answer.responseId], [used, "resp_theirs"]);
  const bare = readResponse(Buffer.from(body), {});
  assert.ok(!(bare instanceof GatewayError) && bare.bytes.toString() === body);
});

test("what is no response is an error: a page, something else, one that failed", () => {
  const codeOf = (body: string) => {
    const read = readResponse(Buffer.from(body), names);
    return read instanceof GatewayError ? read.code : undefined;
  };
  assert.equal(codeOf("<html>"), "provider_error");
  assert.equal(codeOf('{"object":"chat.completion","choices":[]}'), "provider_error");
  const failed = { ...response, status: "failed", error: { code: "rate_limit_exceeded", message: "slow" } };
  assert.equal(codeOf(JSON.stringify(failed)), "provider_rate_limited");
});

test("searches of the web are counted by the response's items, whole or streamed, and opening a page is none", () => {
  const search = (action?: object) => ({
    id: "ws_1",
    type: "web_search_call",
    status: "completed",
    ...(action && { action }),
  });
  const found = [search(), search({ type: "search", query: "x" }), search({ type: "open_page", url: "u" }), ...output];
  const whole = readResponse(Buffer.from(JSON.stringify({ ...response, output: found })), names);
  if (whole instanceof GatewayError) throw whole;
  assert.deepEqual(whole.usage, { ...used, pieces: { webSearch: 2 } });
  const completed = { type: "response.completed", response: { ...response, output: found } };
  const { end } = read([Buffer.from(`data: ${JSON.stringify(completed)}\n\n`)]);
  assert.deepEqual(end?.usage, { ...used, pieces: { webSearch: 2 } });
});
