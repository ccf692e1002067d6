import assert from "node:assert/strict";
import { test } from "node:test";
import { GatewayError } from "../../src/errors.ts";
import { answerEvents, readChatAnswer } from "../../src/wires/openai-chat-answer.ts";
import { readUsage } from "../../src/wires/openai-usage.ts";

function read(body: unknown) {
  return readChatAnswer(Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
}

test("usage and id of an answer are read", () => {
  const answer = read({ id: "chatcmpl-9", choices: [], usage: { prompt_tokens: 3, completion_tokens: 4 } });
  assert.ok(!(answer instanceof GatewayError));
  assert.equal(answer.responseId, "chatcmpl-9");
  assert.equal(answer.usage?.inputTokens, 3);
  assert.equal(answer.usage?.outputTokens, 4);
});

test("an HTML page, cut JSON and JSON that is no completion are provider errors", () => {
  for (const body of ["<!doctype html><h1>Bad gateway", '{"id":"x","choices":[{"ind', "", "[]", '{"ok":true}']) {
    const answer = read(body);
    assert.ok(answer instanceof GatewayError);
    assert.equal(answer.code, "provider_error");
  }
});

test("an error under status 200 is an error", () => {
  const answer = read({ error: { message: "too many", code: "rate_limit_exceeded" } });
  assert.ok(answer instanceof GatewayError);
  assert.equal(answer.code, "provider_rate_limited");
});

test("cached, written and reasoning tokens are found where providers put them, and never exceed the totals", () => {
  const counted = { prompt_tokens: 10, completion_tokens: 5 };
  const parts = (usage: ReturnType<typeof readUsage>) => [
    usage?.cacheReadInputTokens,
    usage?.cacheWriteInputTokens,
    usage?.reasoningOutputTokens,
  ];
  const details = {
    prompt_tokens_details: { cached_tokens: 4, cache_write_tokens: 3 },
    completion_tokens_details: { reasoning_tokens: 2 },
  };
  assert.deepEqual(parts(readUsage({ ...counted, ...details })), [4, 3, 2]);
  assert.deepEqual(
    parts(readUsage({ ...counted, cache_read_input_tokens: 6, cache_creation_input_tokens: 9 })),
    [6, 4, 0],
  );
  assert.deepEqual(parts(readUsage({ ...counted, prompt_cache_hit_tokens: 99 })), [10, 0, 0]);
});

test("audio and image tokens, caches of an hour and the service tier are found where they are reported", () => {
  const counted = { prompt_tokens: 10, completion_tokens: 5 };
  const plain = readUsage({ ...counted, prompt_tokens_details: { audio_tokens: 0 } });
  assert.deepEqual(plain, readUsage(counted));
  const details = {
    cache_creation_input_tokens: 4,
    cache_creation: { ephemeral_5m_input_tokens: 1, ephemeral_1h_input_tokens: 3 },
    prompt_tokens_details: { audio_tokens: 2, image_tokens: 1, image_count: 7 },
    completion_tokens_details: { audio_tokens: 4, image_tokens: 1 },
  };
  assert.deepEqual(readUsage({ ...counted, ...details }, "flex"), {
    ...plain,
    ...{ cacheWriteInputTokens: 4, cacheWrite1hInputTokens: 3 },
    ...{ audioInputTokens: 2, imageInputTokens: 1, pieces: { image: 7 } },
    ...{ audioOutputTokens: 4, imageOutputTokens: 1 },
    serviceTier: "flex",
  });
  const proxied = { prompt_tokens_details: { cache_creation_token_details: { ephemeral_1h_input_tokens: 3 } } };
  assert.equal(readUsage({ ...counted, ...proxied })?.cacheWrite1hInputTokens, 3);
  assert.equal(readUsage({ ...counted, service_tier: "priority" }, "default")?.serviceTier, "priority");
});

test("usage that is none is undefined", () => {
  for (const value of [
    null,
    undefined,
    {},
    [],
    "5",
    { prompt_tokens: "10" },
    { prompt_tokens: -1 },
    { completion_tokens: 1 },
  ]) {
    assert.equal(readUsage(value as never), undefined);
  }
  assert.equal(readUsage({ prompt_tokens: 2, total_tokens: 7 })?.outputTokens, 5);
});

test("an answer becomes neutral events", () => {
  const answer = read({
    id: "c",
    model: "real",
    created: 7,
    choices: [
      { index: 0, message: { role: "assistant", content: "hello", reasoning_content: "why" }, finish_reason: "stop" },
      {
        index: 1,
        message: {
          content: null,
          tool_calls: [{ id: "t", type: "function", function: { name: "f", arguments: "{}" } }],
        },
        finish_reason: "tool_calls",
      },
    ],
    usage: { prompt_tokens: 1, completion_tokens: 1 },
  });
  assert.ok(!(answer instanceof GatewayError));
  assert.deepEqual(answerEvents(answer), [
    { type: "start", id: "c", model: "real", createdS: 7 },
    { type: "delta", choice: 0, text: "hello", reasoning: "why" },
    { type: "finish", choice: 0, reason: "stop" },
    { type: "delta", choice: 1, toolCalls: [{ index: 0, id: "t", name: "f", arguments: "{}" }] },
    { type: "finish", choice: 1, reason: "tool_calls" },
    { type: "end", usage: answer.usage, responseId: "c", raw: undefined },
  ]);
});
