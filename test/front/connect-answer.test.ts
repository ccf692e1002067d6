import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import type { CallEvent } from "../../src/completion.ts";
import { AnswerBuilder, StreamEncoder } from "../../src/front/connect-answer.ts";
import {
  CompleteResponseSchema,
  FinishReason,
  StreamCompleteResponseSchema,
} from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { accepted, settled, start } from "./scripted-gateway.ts";

function whole(...events: CallEvent[]) {
  const builder = new AnswerBuilder();
  for (const event of [accepted, start, ...events, settled]) builder.add(event);
  return create(CompleteResponseSchema, builder.build());
}

test("choices are put together by index, each from its own pieces", () => {
  const answer = whole(
    { type: "delta", choice: 1, text: "b1" },
    { type: "delta", choice: 0, reasoning: "hm", text: "a1" },
    { type: "delta", choice: 1, refusal: "no" },
    { type: "delta", choice: 0, reasoning: "m", text: "a2" },
    { type: "finish", choice: 1, reason: "content_filter" },
    { type: "finish", choice: 0, reason: "length" },
  );
  assert.deepEqual(
    answer.choices.map(({ index, text, reasoning, refusal, finishReason }) => [
      index,
      text,
      reasoning,
      refusal,
      finishReason,
    ]),
    [
      [0, "a1a2", "hmm", "", FinishReason.LENGTH],
      [1, "b1", "", "no", FinishReason.CONTENT_FILTER],
    ],
  );
});

test("tool calls are put together from pieces, in the order of their indexes, gaps or not", () => {
  const answer = whole(
    { type: "delta", choice: 0, toolCalls: [{ index: 3, id: "c3", name: "g", arguments: "" }] },
    { type: "delta", choice: 0, toolCalls: [{ index: 0, id: "c0", name: "f", arguments: '{"a"' }] },
    {
      type: "delta",
      choice: 0,
      toolCalls: [
        { index: 0, arguments: ":1}" },
        { index: 3, arguments: "{}" },
      ],
    },
    { type: "finish", choice: 0, reason: "tool_calls" },
  );
  assert.deepEqual(
    answer.choices[0]?.toolCalls.map((call) => [call.id, call.name, call.arguments]),
    [
      ["c0", "f", '{"a":1}'],
      ["c3", "g", "{}"],
    ],
  );
});

test("log probabilities are one list in the end", () => {
  const answer = whole(
    { type: "delta", choice: 0, text: "a", logprobs: { content: [{ token: "a" }], refusal: null } },
    { type: "delta", choice: 0, text: "b", logprobs: { content: [{ token: "b" }], refusal: null } },
  );
  assert.deepEqual(answer.choices[0]?.logprobs, { content: [{ token: "a" }, { token: "b" }], refusal: null });
  assert.equal(whole({ type: "delta", choice: 0, text: "a" }).choices[0]?.logprobs, undefined);
});

test("reasons to end have names, and the provider's own word stays", () => {
  const cases: [string, FinishReason][] = [
    ["", FinishReason.UNSPECIFIED],
    ["stop", FinishReason.STOP],
    ["length", FinishReason.LENGTH],
    ["tool_calls", FinishReason.TOOL_CALLS],
    ["function_call", FinishReason.TOOL_CALLS],
    ["content_filter", FinishReason.CONTENT_FILTER],
    ["pause_turn", FinishReason.OTHER],
  ];
  for (const [reason, expected] of cases) {
    const [choice] = whole({ type: "finish", choice: 0, reason }).choices;
    assert.equal(choice?.finishReason, expected);
    assert.equal(choice.finishReasonRaw, reason);
  }
});

test("a stream's messages carry what is known when they are sent", () => {
  const encoder = new StreamEncoder();
  const encode = (event: CallEvent) => {
    const message = encoder.encode(event);
    return message && create(StreamCompleteResponseSchema, message).event;
  };
  assert.equal(encode(accepted), undefined);
  const started = encode(start);
  assert.equal(started?.case, "started");
  assert.equal(started.value.call?.attempts, 2);
  assert.equal(started.value.call.costUsd, "");
  const delta = encode({
    type: "delta",
    choice: 1,
    reasoning: "hm",
    toolCalls: [{ index: 0, id: "c", name: "f", arguments: "{" }],
    logprobs: { content: [] },
  });
  assert.equal(delta?.case, "delta");
  assert.equal(delta.value.choice, 1);
  assert.equal(delta.value.text, "");
  assert.equal(delta.value.reasoning, "hm");
  assert.equal(delta.value.toolCalls[0]?.arguments, "{");
  assert.deepEqual(delta.value.logprobs, { content: [] });
  const finished = encode({ type: "finish", choice: 1, reason: "stop" });
  assert.equal(finished?.case === "finished" && finished.value.finishReason, FinishReason.STOP);
  const ended = encode(settled);
  assert.equal(ended?.case, "ended");
  assert.equal(ended.value.usage?.cacheReadInputTokens, 3n);
  assert.equal(ended.value.call?.costUsd, "0.0015");
});

const cited = { url: "https://a.example/", title: "A", start_index: 1, end_index: 4 };
const page = { type: "url_citation", url_citation: cited };
const file = { type: "file_citation", file_citation: { file_id: "f" } };
const citedMore = { type: "url_citation", url_citation: { ...cited, cited_text: "wörld" } };
const typedPage = {
  case: "urlCitation",
  value: { $typeName: "tollgate.completion.v1.UrlCitation", url: cited.url, title: "A", startIndex: 1, endIndex: 4 },
};

test("reasoning keeps its blocks, signed and hidden; sources are typed where nothing is lost by it; the rest is `extra`", () => {
  const [choice] = whole(
    { type: "delta", choice: 0, reasoning: "h" },
    { type: "delta", choice: 0, reasoning: "m", signature: "s1" },
    { type: "delta", choice: 0, redactedReasoning: "opaque" },
    { type: "delta", choice: 0, text: "wörld", annotations: [page], providerFields: { list: [1] } },
    { type: "delta", choice: 0, annotations: [file, citedMore], providerFields: { list: [2], other: "x" } },
    { type: "delta", choice: 0, toolCalls: [{ index: 0, id: "c", name: "f", providerFields: { mark: "m" } }] },
  ).choices;
  assert.equal(choice?.reasoning, "hm");
  assert.deepEqual(
    choice.reasoningBlocks.map(({ text, signature, redacted }) => [text, signature, redacted]),
    [
      ["hm", "s1", ""],
      ["", "", "opaque"],
    ],
  );
  assert.deepEqual(
    choice.annotations.map(({ annotation }) => annotation),
    [typedPage, { case: "other", value: file }, { case: "other", value: citedMore }],
  );
  assert.deepEqual(choice.extra, { provider_specific_fields: { list: [1, 2], other: "x" } });
  assert.deepEqual(choice.toolCalls[0]?.extra, { provider_specific_fields: { mark: "m" } });
  assert.equal(whole({ type: "delta", choice: 0, text: "a" }).choices[0]?.extra, undefined);
});

test("a stream's pieces carry signatures, hidden reasoning, sources and what only the provider says", () => {
  const message = new StreamEncoder().encode({
    ...{ type: "delta", choice: 0, signature: "s1", redactedReasoning: "opaque", annotations: [page, file] },
    toolCalls: [{ index: 0, id: "c", name: "f", arguments: "", providerFields: { mark: "m" } }],
    providerFields: { list: [1] },
  });
  const event = message && create(StreamCompleteResponseSchema, message).event;
  assert.ok(event?.case === "delta");
  assert.deepEqual([event.value.signature, event.value.redactedReasoning], ["s1", "opaque"]);
  assert.deepEqual(
    event.value.annotations.map(({ annotation }) => annotation),
    [typedPage, { case: "other", value: file }],
  );
  assert.deepEqual(event.value.toolCalls[0]?.extra, { provider_specific_fields: { mark: "m" } });
  assert.deepEqual(event.value.extra, { provider_specific_fields: { list: [1] } });
});

test("what was used is told with its details", () => {
  assert.ok(settled.type === "settled");
  const used = { ...settled.usage, cacheWrite1hInputTokens: 2, audioInputTokens: 5, imageOutputTokens: 6 };
  const message = new StreamEncoder().encode({ ...settled, usage: { ...used, serviceTier: "flex", estimated: true } });
  const event = message && create(StreamCompleteResponseSchema, message).event;
  assert.ok(event?.case === "ended" && event.value.usage !== undefined);
  const { cacheWrite1hInputTokens, audioInputTokens, audioOutputTokens, imageOutputTokens } = event.value.usage;
  assert.deepEqual([cacheWrite1hInputTokens, audioInputTokens, audioOutputTokens, imageOutputTokens], [2n, 5n, 0n, 6n]);
  assert.deepEqual([event.value.usage.serviceTier, event.value.usage.estimated], ["flex", true]);
});
