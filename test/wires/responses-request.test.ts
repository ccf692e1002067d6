import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompletionEvent } from "../../src/completion.ts";
import { ProviderFailure } from "../../src/errors.ts";
import { ResponseEvents } from "../../src/wires/responses-events.ts";
import { encodeAsResponses, type ResponsesRequestTarget } from "../../src/wires/responses-request.ts";
import { ResponseStreamReader } from "../../src/wires/responses-stream.ts";
import { framesOf } from "../responses-server.ts";
import { sampleRequest } from "../sample-call.ts";
import { allCuts, joined, readPieces } from "./reading.ts";

const target: ResponsesRequestTarget = {
  model: "gpt-pro",
  outputTokensMax: undefined,
  provider: "openai",
  params: { lacks: new Set(), drops: false, leavesOut: [], modifies: false },
};

function sent(fields: object, facts: Partial<ResponsesRequestTarget> = {}): unknown {
  return JSON.parse(encodeAsResponses(sampleRequest(fields), { ...target, ...facts }).toString());
}

test("a conversation with calls, results, pictures and files becomes items", () => {
  const messages = [
    { role: "system", content: "Be brief." },
    {
      role: "user",
      content: [
        { type: "text", text: "What is this?", cache_control: { type: "ephemeral" } },
        { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
        { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,AA==" } },
        { type: "file", file: { file_id: "https://example.com/b.pdf" } },
        { type: "file", file: { file_id: "file-1" } },
      ],
    },
    {
      ...{ role: "assistant", content: "Let me see.", thinking_blocks: [{ type: "thinking", thinking: "Hm." }] },
      tool_calls: [{ id: "call_1", type: "function", function: { name: "f", arguments: '{"a":1}' } }],
    },
    { role: "tool", tool_call_id: "call_1", content: "sunny" },
    { role: "assistant", content: null, refusal: "No." },
    { role: "user", content: "Thanks" },
  ];
  assert.deepEqual(sent({ messages }), {
    model: "gpt-pro",
    input: [
      { role: "system", content: [{ type: "input_text", text: "Be brief." }] },
      {
        role: "user",
        content: [
          { type: "input_text", text: "What is this?" },
          { type: "input_image", image_url: "data:image/png;base64,AA==", detail: "auto" },
          { type: "input_file", filename: "a.pdf", file_data: "data:application/pdf;base64,AA==" },
          { type: "input_file", file_url: "https://example.com/b.pdf" },
          { type: "input_file", file_id: "file-1" },
        ],
      },
      { role: "assistant", content: [{ type: "output_text", text: "Let me see." }] },
      { type: "function_call", call_id: "call_1", name: "f", arguments: '{"a":1}' },
      { type: "function_call_output", call_id: "call_1", output: "sunny" },
      { role: "assistant", content: [{ type: "refusal", refusal: "No." }] },
      { role: "user", content: [{ type: "input_text", text: "Thanks" }] },
    ],
    store: false,
  });
});

test("parameters have their names here, what speaks to the gateway is left out, and what is unknown passes", () => {
  const schema = { type: "object" };
  const body = sent({
    ...{ max_tokens: 50, stream: true, stream_options: { include_usage: true }, temperature: 0.5, n: 1, seed: null },
    tools: [
      { type: "function", function: { name: "f", description: "d", parameters: schema, strict: true } },
      { type: "function", function: { name: "g", parameters: schema } },
      { type: "custom", custom: { name: "c" } },
    ],
    tool_choice: { type: "function", function: { name: "f" } },
    web_search_options: {
      search_context_size: "low",
      user_location: { type: "approximate", approximate: { city: "Z" } },
    },
    response_format: { type: "json_schema", json_schema: { name: "place", schema, strict: true } },
    ...{ verbosity: "low", reasoning_effort: "high", logprobs: true, top_logprobs: 2, parallel_tool_calls: false },
    ...{ user: "u", metadata: { a: "b", tags: ["t"] }, service_tier: "flex", x_unknown: { kept: 1 }, num_retries: 2 },
  });
  assert.deepEqual(body, {
    model: "gpt-pro",
    input: [{ role: "user", content: [{ type: "input_text", text: "Hello" }] }],
    ...{ max_output_tokens: 50, stream: true, store: false, temperature: 0.5 },
    tools: [
      { type: "function", name: "f", description: "d", parameters: schema, strict: true },
      { type: "function", name: "g", parameters: schema, strict: false },
      { type: "custom", name: "c" },
      { type: "web_search", search_context_size: "low", user_location: { type: "approximate", city: "Z" } },
    ],
    tool_choice: { type: "function", name: "f" },
    text: { format: { type: "json_schema", name: "place", schema, strict: true }, verbosity: "low" },
    ...{ reasoning: { effort: "high" }, include: ["message.output_text.logprobs"], top_logprobs: 2 },
    ...{ parallel_tool_calls: false, user: "u", metadata: { a: "b" }, service_tier: "flex", x_unknown: { kept: 1 } },
  });
});

test("parameters without a place are refused by name, or dropped where that is wanted", () => {
  for (const [name, value] of Object.entries({ stop: ["x"], seed: 7, n: 2, logit_bias: { 1: 1 } })) {
    assert.throws(
      () => sent({ [name]: value }),
      (error) => error instanceof ProviderFailure && error.facts.param === name && !error.billable,
    );
    const dropped = sent({ [name]: value }, { params: { ...target.params, drops: true } }) as object;
    assert.equal(name in dropped, false);
  }
});

const text = "Grüß Gott 🚀";
const citation = { type: "url_citation", url: "https://x", title: "X", start_index: 0, end_index: 4 };
const output = [
  { id: "rs_1", type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }] },
  {
    ...{ id: "msg_1", type: "message", role: "assistant", status: "completed" },
    content: [{ type: "output_text", text, annotations: [citation], logprobs: [] }],
  },
  { id: "ws_1", type: "web_search_call", status: "completed" },
  { id: "fc_1", type: "function_call", status: "completed", call_id: "call_1", name: "f", arguments: '{"a":"ü"}' },
  { id: "fc_2", type: "function_call", status: "completed", call_id: "call_2", name: "g", arguments: "{}" },
];
const usage = { input_tokens: 40, output_tokens: 25, total_tokens: 65 };
const response = {
  id: "resp_1",
  object: "response",
  created_at: 1_700_000_000,
  model: "gpt-pro",
  status: "completed",
  output,
  usage,
};
const calls = [
  { id: "call_1", name: "f", arguments: '{"a":"ü"}' },
  { id: "call_2", name: "g", arguments: "{}" },
];

function assertSaid(events: readonly CompletionEvent[]): void {
  assert.deepEqual(events[0], { type: "start", id: "resp_1", model: "gpt-pro", createdS: 1_700_000_000 });
  const said = joined(events);
  assert.deepEqual([said.text, said.reasoning, said.calls, said.reason], [text, "Hm.", calls, "tool_calls"]);
}

test("a stream becomes neutral events, wherever the network cut it", () => {
  const streamed = output.filter(({ type }) => type !== "web_search_call");
  for (const pieces of allCuts(Buffer.from(framesOf({ ...response, output: streamed }, streamed)))) {
    const { events, failure } = readPieces(new ResponseStreamReader(undefined), pieces);
    assert.equal(failure, undefined);
    assertSaid(events);
    const { end } = joined(events);
    assert.deepEqual([end?.usage?.inputTokens, end?.usage?.outputTokens, end?.raw], [40, 25, undefined]);
  }
});

test("a whole answer says the same, with its sources", () => {
  const events = new ResponseEvents().whole(response);
  assertSaid(events);
  const { type, ...fields } = citation;
  const sources = events.flatMap((event) => (event.type === "delta" ? (event.annotations ?? []) : []));
  assert.deepEqual(sources, [{ type, url_citation: fields }]);
  const added = { type: "response.output_text.annotation.added", annotation: citation };
  assert.deepEqual(new ResponseEvents().read(added), [{ type: "delta", choice: 0, annotations: sources }]);
});

test("what was cut off or withheld says so, and refusals and paragraphs of thought are told", () => {
  const reasonOf = (why: string) => {
    const fields = { status: "incomplete", incomplete_details: { reason: why }, output: [] };
    return joined(new ResponseEvents().whole({ ...response, ...fields })).reason;
  };
  assert.deepEqual(["max_output_tokens", "content_filter"].map(reasonOf), ["length", "content_filter"]);
  const read = (type: string, fields: object) => new ResponseEvents().read({ type: `response.${type}`, ...fields });
  assert.deepEqual(read("refusal.delta", { delta: "No." }), [{ type: "delta", choice: 0, refusal: "No." }]);
  assert.deepEqual(read("reasoning_summary_part.added", { summary_index: 1 }), [
    { type: "delta", choice: 0, reasoning: "\n\n" },
  ]);
  assert.deepEqual(read("web_search_call.searching", {}), []);
});
