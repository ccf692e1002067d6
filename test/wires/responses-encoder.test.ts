import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeltaEvent, JsonObject } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { chatOf } from "../../src/wires/responses-chat.ts";
import { ResponseAnswerEncoder, ResponseStreamEncoder } from "../../src/wires/responses-encoder.ts";

const request = { model: "m", input: "Hello", temperature: 0.5, metadata: { a: "b" } };
const start = { type: "start" as const, id: "x1", model: "claude", createdS: 1_700_000_000 };
const usage = {
  ...{ inputTokens: 40, outputTokens: 25, cacheReadInputTokens: 30, cacheWriteInputTokens: 5 },
  ...{ reasoningOutputTokens: 20, estimated: false },
};

/** The events of a stream, and the same answer written whole. */
function written(deltas: readonly Omit<DeltaEvent, "type" | "choice">[], reason = "stop") {
  const [stream, whole] = [new ResponseStreamEncoder(request), new ResponseAnswerEncoder(request)];
  let frames = "";
  const events = [
    start,
    ...deltas.map((delta) => ({ type: "delta" as const, choice: 0, ...delta })),
    { type: "finish" as const, choice: 0, reason },
  ];
  for (const event of events) {
    frames += stream.encode(event)?.toString() ?? "";
    whole.add(event);
  }
  frames += stream.end(usage).toString();
  const told = [...frames.matchAll(/^event: (.*)\ndata: (.*)\n\n/gm)].map(([, name, data = ""]) => {
    const event = JSON.parse(data) as JsonObject & { type: string; response?: JsonObject };
    assert.equal(event.type, name);
    return event;
  });
  assert.deepEqual(
    told.map(({ sequence_number: number }) => number),
    told.map((_, index) => index),
  );
  const response = JSON.parse(whole.end(usage).toString()) as JsonObject & { output: JsonObject[] };
  assert.deepEqual(told.at(-1)?.response, response, "a stream ends with the whole answer");
  return { told, response };
}

const brief = ({ type, sequence_number: _, response, ...fields }: JsonObject) =>
  `${String(type).replace("response.", "")}${response === undefined ? ` ${JSON.stringify(fields)}` : ""}`;

test("text, with its sources and a refusal, is one message, told in OpenAI's order", () => {
  const annotation = {
    type: "url_citation",
    url_citation: { url: "https://x", title: "X", start_index: 0, end_index: 2 },
  };
  const flat = { url: "https://x", title: "X", start_index: 0, end_index: 2, type: "url_citation" };
  const { told, response } = written([
    { text: "Grüß" },
    { text: " Gott", annotations: [annotation] },
    { refusal: "No." },
  ]);
  const at = '"item_id":"msg_x1_0","output_index":0,"content_index"';
  const part = { type: "output_text", annotations: [flat], logprobs: [], text: "Grüß Gott" };
  const refusal = { type: "refusal", refusal: "No." };
  const item = { id: "msg_x1_0", type: "message", status: "completed", role: "assistant", content: [part, refusal] };
  assert.deepEqual(told.map(brief), [
    "created",
    "in_progress",
    `output_item.added {"output_index":0,"item":${JSON.stringify({ ...item, status: "in_progress", content: [] })}}`,
    `content_part.added {${at}:0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}}`,
    `output_text.delta {${at}:0,"delta":"Grüß","logprobs":[]}`,
    `output_text.delta {${at}:0,"delta":" Gott","logprobs":[]}`,
    `output_text.annotation.added {${at}:0,"annotation_index":0,"annotation":${JSON.stringify(flat)}}`,
    `output_text.done {${at}:0,"text":"Grüß Gott","logprobs":[]}`,
    `content_part.done {${at}:0,"part":${JSON.stringify(part)}}`,
    `content_part.added {${at}:1,"part":{"type":"refusal","refusal":""}}`,
    `refusal.delta {${at}:1,"delta":"No."}`,
    `refusal.done {${at}:1,"refusal":"No."}`,
    `content_part.done {${at}:1,"part":${JSON.stringify(refusal)}}`,
    `output_item.done {"output_index":0,"item":${JSON.stringify(item)}}`,
    "completed",
  ]);
  assert.deepEqual(response.output, [item]);
  assert.deepEqual(response.usage, {
    ...{ input_tokens: 40, input_tokens_details: { cached_tokens: 30, cache_write_tokens: 5 }, output_tokens: 25 },
    ...{ output_tokens_details: { reasoning_tokens: 20 }, total_tokens: 65, cache_creation_input_tokens: 5 },
  });
  const { id, object, status, model, temperature, metadata, store, created_at: createdAt } = response;
  assert.deepEqual(
    { id, object, status, model, temperature, metadata, store, createdAt },
    {
      ...{
        id: "resp_x1",
        object: "response",
        status: "completed",
        model: "claude",
        temperature: 0.5,
        metadata: { a: "b" },
      },
      ...{ store: false, createdAt: 1_700_000_000 },
    },
  );
});

test("thoughts and calls, also those written by turns, are items of their own, and come back as they were", () => {
  const { told, response } = written(
    [
      { reasoning: "Let" },
      { reasoning: " me" },
      { signature: "c2ln" },
      { redactedReasoning: "b3BhcXVl" },
      { reasoning: "unsigned" },
      { text: "See:" },
      { toolCalls: [{ index: 0, id: "call_1", name: "f", arguments: "" }] },
      { toolCalls: [{ index: 2, id: "call_2", name: "g", providerFields: { thought_signature: "cw" } }] },
      { toolCalls: [{ index: 0, arguments: '{"a":' }] },
      { toolCalls: [{ index: 0, arguments: "1}" }] },
    ],
    "tool_calls",
  );
  const summary = (text: string) => [{ type: "summary_text", text }];
  assert.deepEqual(response.output, [
    { id: "rs_x1_0", type: "reasoning", summary: summary("Let me"), encrypted_content: "tollgate.signature:c2ln" },
    { id: "rs_x1_1", type: "reasoning", summary: [], encrypted_content: "tollgate.redacted:b3BhcXVl" },
    { id: "rs_x1_2", type: "reasoning", summary: summary("unsigned") },
    {
      ...{ id: "msg_x1_3", type: "message", status: "completed", role: "assistant" },
      content: [{ type: "output_text", annotations: [], logprobs: [], text: "See:" }],
    },
    {
      ...{
        id: "fc_x1_4",
        type: "function_call",
        status: "completed",
        arguments: '{"a":1}',
        call_id: "call_1",
        name: "f",
      },
    },
    {
      ...{ id: "fc_x1_5", type: "function_call", status: "completed", arguments: "{}", call_id: "call_2", name: "g" },
      provider_specific_fields: { thought_signature: "cw" },
    },
  ]);
  const indexes = (type: string) => told.filter((event) => event.type === type).map((event) => event.output_index);
  assert.deepEqual(indexes("response.output_item.added"), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(indexes("response.output_item.done"), [0, 1, 2, 3, 4, 5]);
  const thoughts = told
    .filter(({ output_index: index }) => index === 0)
    .map(({ type }) => type.replace("response.", ""));
  assert.deepEqual(thoughts, [
    ...["output_item.added", "reasoning_summary_part.added"],
    ...["reasoning_summary_text.delta", "reasoning_summary_text.delta"],
    ...["reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"],
  ]);
  const { chat } = chatOf({ model: "m", input: response.output });
  assert.deepEqual(chat.messages, [
    {
      role: "assistant",
      content: "See:",
      thinking_blocks: [
        { type: "thinking", thinking: "Let me", signature: "c2ln" },
        { type: "redacted_thinking", data: "b3BhcXVl" },
      ],
      tool_calls: [
        { id: "call_1", type: "function", function: { name: "f", arguments: '{"a":1}' } },
        {
          ...{ id: "call_2", type: "function", function: { name: "g", arguments: "{}" } },
          provider_specific_fields: { thought_signature: "cw" },
        },
      ],
    },
  ]);
});

test("an answer that is cut off, or withheld, is incomplete and says why", () => {
  for (const [reason, why] of [
    ["length", "max_output_tokens"],
    ["content_filter", "content_filter"],
  ] as const) {
    const { told, response } = written([{ text: "Half" }], reason);
    assert.equal(told.at(-1)?.type, "response.incomplete");
    assert.deepEqual([response.status, response.incomplete_details], ["incomplete", { reason: why }]);
    assert.equal(response.output[0]?.status, "incomplete");
  }
});

test("probabilities stand with their text", () => {
  const probability = { token: "Hi", logprob: -0.1, bytes: [72, 105], top_logprobs: [] };
  const { response } = written([{ text: "Hi", logprobs: { content: [probability] } }]);
  assert.deepEqual(response.output[0]?.content, [
    { type: "output_text", annotations: [], logprobs: [probability], text: "Hi" },
  ]);
});

test("an error in the middle is numbered as an event and has chat's form too, for clients look for either", () => {
  const encoder = new ResponseStreamEncoder(request);
  encoder.encode(start);
  const frame = encoder.fail(new GatewayError("provider_timeout", "Too slow."));
  const [, data = ""] = /^event: error\ndata: (.*)\n\n$/.exec(frame) ?? [];
  assert.deepEqual(JSON.parse(data), {
    ...{ type: "error", sequence_number: 2, code: "provider_timeout", message: "Too slow.", param: null },
    error: { message: "Too slow.", type: "provider_error", param: null, code: "provider_timeout" },
  });
});
