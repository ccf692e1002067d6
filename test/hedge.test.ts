import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CallEvent } from "../src/completion.ts";
import { ProviderFailure } from "../src/errors.ts";
import { answer, GatewayStage, type Step } from "./gateway-stage.ts";
import { sampleDeployment, sampleRequest, sampleRouter } from "./sample-call.ts";

const two = [sampleDeployment({ id: "a" }), sampleDeployment({ id: "b" })];
const hedge = { quantile: 0.9, afterMsMin: 50, shareMax: 1 };
const stream = { request: sampleRequest({ stream: true }) };
const textOf = (events: readonly CallEvent[]) =>
  events.map((event) => (event.type === "delta" ? (event.text ?? "") : "")).join("");

/** A stage whose deployments have answered after 20 ms so far. */
async function warm(facts: Partial<typeof hedge> = {}, deployments = two): Promise<GatewayStage> {
  const stage = new GatewayStage({
    deployments,
    config: { router: sampleRouter({ hedge: { ...hedge, ...facts }, retries: 0 }) },
    grant: { limits: [] },
  });
  stage.provider.scripts = Array.from({ length: 24 }, () => [20, ...answer]);
  // The first deployment is chosen while both are well, so both are asked for some time.
  for (let call = 0; call < 12; call++) await stage.answered();
  for (const { deployment } of stage.provider.calls) assert.equal(deployment.id, "a");
  stage.provider.scripts.length = stage.provider.calls.length;
  return stage;
}

describe("a second attempt, where it is configured,", () => {
  test("is made when the first is later than usual; whichever begins first is kept, the other is cancelled and booked", async () => {
    const stage = await warm();
    const before = stage.provider.calls.length;
    stage.provider.scripts.push([5_000, ...answer], [10, ...answer]);
    const startedMs = stage.clock.monotonicMs();
    const events = await stage.answered();
    const tookMs = stage.clock.monotonicMs() - startedMs;
    assert.ok(tookMs >= 60 && tookMs < 200, `it took ${tookMs} ms`);
    assert.equal(textOf(events), "Hello you");
    assert.equal(events.filter(({ type }) => type === "accepted").length, 1);
    assert.equal(events[0]?.type === "accepted" && events[0].deploymentId, "b");
    assert.deepEqual(
      stage.provider.calls.slice(before).map(({ deployment }) => deployment.id),
      ["a", "b"],
    );
    const records = await stage.rest();
    const last = records.slice(before).sort((x, y) => x.attempt - y.attempt);
    assert.deepEqual(
      last.map(({ attempt, status, usageEstimated }) => [attempt, status, usageEstimated]),
      [
        [1, "cancelled", true],
        [2, "success", false],
      ],
    );
    assert.ok((last[0]?.cost ?? 0n) > 0n, "a provider may bill what was given up");
  });

  test("is not made when the first is as quick as usual", async () => {
    const stage = await warm();
    const before = stage.provider.calls.length;
    stage.provider.scripts.push([40, ...answer]);
    await stage.answered();
    assert.equal(stage.provider.calls.length, before + 1);
    await stage.rest();
  });

  test("loses when the first begins after all, and that is the answer", async () => {
    const stage = await warm();
    stage.provider.scripts.push([80, ...answer], [5_000, ...answer]);
    const [accepted] = await stage.answered();
    assert.equal(accepted?.type === "accepted" && accepted.deploymentId, "a");
    await stage.rest();
  });

  test("takes the place of a first that fails", async () => {
    const stage = await warm();
    const down = new ProviderFailure("provider_unavailable", "Down.", { billable: false });
    stage.provider.scripts.push([70, down], [60, ...answer]);
    const [accepted] = await stage.answered();
    assert.equal(accepted?.type === "accepted" && accepted.deploymentId, "b");
    await stage.rest();
  });

  test("is not made where there is nowhere else, or when there were too many already", async () => {
    const alone = await warm({}, [sampleDeployment({ id: "a" })]);
    alone.provider.scripts.push([500, ...answer]);
    await alone.answered();
    assert.equal(alone.provider.calls.length, 13);
    await alone.rest();
    const thrifty = await warm({ shareMax: 0 });
    thrifty.provider.scripts.push([500, ...answer], [10, ...answer], [500, ...answer]);
    await thrifty.answered();
    await thrifty.answered();
    assert.equal(thrifty.provider.calls.length, 15, "one is free, then none");
    await thrifty.rest();
  });

  test("and the first end both when the reader leaves", async () => {
    const stage = await warm();
    stage.provider.scripts.push([5_000, ...answer], ["wait"]);
    const abort = new AbortController();
    stage.clock.after(100, () => abort.abort(new Error("gone")));
    await stage.failed({ signal: abort.signal });
    const records = await stage.rest();
    assert.deepEqual(
      records.slice(12).map(({ status }) => status),
      ["cancelled", "cancelled"],
    );
  });
});

describe("a stream that does not begin", () => {
  const slow = (facts: object) => [sampleDeployment({ id: "a", ...facts }), sampleDeployment({ id: "b" })];

  test("within its deployment's time is a timeout, billed as an estimate, and the next deployment answers", async () => {
    const stage = new GatewayStage({ deployments: slow({ firstTokenTimeoutMs: 300 }) });
    stage.provider.scripts = [[400, ...answer], answer];
    const events = await stage.answered(stream);
    assert.equal(textOf(events), "Hello you");
    const records = await stage.rest();
    assert.deepEqual(
      records.map(({ status }) => status),
      ["failure", "success"],
    );
    assert.deepEqual(stage.ends.attempts, ["provider_timeout", "ok"]);
    assert.ok((records[0]?.cost ?? 0n) > 0n);
  });

  test("within its caller's time ends the call", async () => {
    const stage = new GatewayStage({ deployments: slow({}) });
    stage.provider.scripts = [["wait"], ["wait"]];
    const { error } = await stage.failed({ request: sampleRequest({ stream: true, timeout: 0.4 }) });
    assert.equal(error.code, "provider_timeout");
    assert.ok(stage.clock.monotonicMs() < 600);
    await stage.rest();
  });
});

describe("a stream that breaks off", () => {
  const half: readonly Step[] = [
    ...answer.slice(0, 1),
    { type: "delta", choice: 0, text: "The sea is " },
    new ProviderFailure("stream_interrupted", "It broke off.", { billable: true }),
  ];
  const config = { router: sampleRouter({ continuesStreams: true }) };

  test("is gone on with by another deployment, which is told what there is, if so configured", async () => {
    const stage = new GatewayStage({ deployments: two, config });
    stage.provider.scripts = [half, answer];
    const events = await stage.answered(stream);
    assert.equal(textOf(events), "The sea is Hello you");
    assert.deepEqual(
      events.map(({ type }) => type),
      ["accepted", "start", "delta", "delta", "finish", "settled"],
    );
    const messages = stage.provider.calls[1]?.request.chat().messages as { role: string; content: string }[];
    assert.deepEqual(
      messages.map(({ role }) => role),
      ["user", "system", "assistant"],
    );
    assert.equal(messages.at(-1)?.content, "The sea is ");
    const records = await stage.rest();
    assert.equal(records.length, 2);
    const settled = events.at(-1);
    const sum = records.reduce((tokens, record) => tokens + record.outputTokens, 0);
    assert.equal(
      settled?.type === "settled" && settled.usage.outputTokens,
      sum,
      "the caller is told of all that was used",
    );
  });

  test("is gone on with by a fallback, and by a third", async () => {
    const fallbacks = new Map([["m", [{ model: "x" }]]]);
    const stage = new GatewayStage({
      deployments: [sampleDeployment({ id: "a" }), sampleDeployment({ id: "b", modelGroup: "x" })],
      config: { router: sampleRouter({ continuesStreams: true, retries: 0, fallbacks }) },
    });
    stage.provider.scripts = [half, answer];
    assert.equal(textOf(await stage.answered(stream)), "The sea is Hello you");
    await stage.rest();
  });

  for (const [name, event] of [
    ["a tool call", { type: "delta", choice: 0, toolCalls: [{ index: 0, id: "t", name: "f" }] }],
    ["its finish", { type: "finish", choice: 0, reason: "stop" }],
  ] as const) {
    test(`after ${name} is not gone on with`, async () => {
      const stage = new GatewayStage({ deployments: two, config });
      stage.provider.scripts = [[...half.slice(0, 2), event, ...half.slice(2)], answer];
      const { error } = await stage.failed(stream);
      assert.equal(error.code, "stream_interrupted");
      assert.equal(stage.provider.calls.length, 1);
      await stage.rest();
    });
  }

  test("is not gone on with unless that is configured", async () => {
    const stage = new GatewayStage({ deployments: two });
    stage.provider.scripts = [half, answer];
    assert.equal((await stage.failed(stream)).error.code, "stream_interrupted");
    await stage.rest();
  });
});
