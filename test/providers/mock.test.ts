import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { CompletionEvent, CompletionRequest } from "../../src/completion.ts";
import type { MockAnswer } from "../../src/config/mock-answer.ts";
import { GatewayError, ProviderFailure } from "../../src/errors.ts";
import { MockProvider } from "../../src/providers/mock.ts";
import { all, neutralRequest, sampleDeployment } from "../sample-call.ts";

const plain: MockAnswer = {
  chunks: ["Hello", " ", "you"],
  error: undefined,
  delayMs: 0,
  chunkDelayMs: 0,
  usage: undefined,
};

function complete(
  mock: Partial<MockAnswer>,
  parts: { request?: CompletionRequest; outputTokensMax?: number; signal?: AbortSignal } = {},
): Promise<CompletionEvent[]> {
  const call = {
    request: parts.request ?? neutralRequest(),
    deployment: sampleDeployment({ mock: { ...plain, ...mock } }),
    outputTokensMax: parts.outputTokensMax,
    traceparent: undefined,
    ...{ timeoutMs: 5_000, idleTimeoutMs: 5_000 },
    signal: parts.signal ?? new AbortController().signal,
  };
  return all(new MockProvider({ clock: systemClock }).complete(call));
}

function textOf(events: readonly CompletionEvent[], choice = 0): string {
  return events.map((event) => (event.type === "delta" && event.choice === choice ? event.text : "")).join("");
}

test("a mock answers from the configuration, every choice, with usage", async () => {
  const events = await complete({}, { request: neutralRequest({ n: 2 }) });
  assert.equal(textOf(events, 0), "Hello you");
  assert.equal(textOf(events, 1), "Hello you");
  assert.deepEqual(
    events.filter(({ type }) => type === "finish").map((event) => event.type === "finish" && event.reason),
    ["stop", "stop"],
  );
  const end = events.at(-1);
  assert.ok(end?.type === "end");
  assert.equal(end.usage?.outputTokens, 6);
  assert.ok((end.usage?.inputTokens ?? 0) > 0);
});

test("a cap cuts it as it cuts a model, and it says so", async () => {
  for (const capped of [{ outputTokensMax: 2 }, { request: neutralRequest({ max_tokens: 2 }) }]) {
    const events = await complete({}, capped);
    assert.equal(textOf(events), "Hello ");
    assert.ok(events.some((event) => event.type === "finish" && event.reason === "length"));
    const end = events.at(-1);
    assert.equal(end?.type === "end" && end.usage?.outputTokens, 2);
  }
});

test("usage of the configuration goes before counting", async () => {
  const end = (await complete({ usage: { inputTokens: 7, outputTokens: 70 } })).at(-1);
  assert.ok(end?.type === "end");
  assert.deepEqual([end.usage?.inputTokens, end.usage?.outputTokens], [7, 70]);
});

test("an error of the configuration is the failure a provider's would be, and not charged", async () => {
  const error = { status: 429, message: "slow down", retryAfterMs: 50 };
  await assert.rejects(
    complete({ error }),
    (thrown) =>
      thrown instanceof ProviderFailure &&
      thrown.code === "provider_rate_limited" &&
      thrown.facts.retryAfterMs === 50 &&
      !thrown.billable,
  );
});

test("a caller that goes away ends the wait before and between the pieces", async () => {
  for (const slow of [{ delayMs: 60_000 }, { chunkDelayMs: 60_000 }]) {
    const abort = new AbortController();
    const gone = new GatewayError("client_closed_request", "Gone.");
    setTimeout(() => abort.abort(gone), 20);
    await assert.rejects(complete(slow, { signal: abort.signal }), (thrown) => thrown === gone);
  }
});
