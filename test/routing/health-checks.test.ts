import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { pause } from "../../src/clock.ts";
import type { CompletionEvent } from "../../src/completion.ts";
import type { Config, Deployment, RouterConfig } from "../../src/config/config.ts";
import { type Counters, CountersUnavailable } from "../../src/counters/counters.ts";
import { createMemoryCounters } from "../../src/counters/memory.ts";
import { ProviderFailure } from "../../src/errors.ts";
import type { Provider, ProviderCall } from "../../src/providers/provider.ts";
import { Health } from "../../src/routing/health.ts";
import { HealthChecks } from "../../src/routing/health-checks.ts";
import { HealthReport } from "../../src/routing/health-report.ts";
import { Router } from "../../src/routing/router.ts";
import { Snapshots } from "../../src/routing/snapshots.ts";
import { HandClock } from "../keys/hand-clock.ts";
import { sampleConfig, sampleDeployment, sampleRouter } from "../sample-call.ts";
import { sampleBoard } from "./sample-board.ts";

const intervalMs = 60_000;
const end: CompletionEvent = { type: "end", usage: undefined, responseId: undefined, raw: undefined };
const down = new ProviderFailure("provider_error", "Key sk-live-123 met an error.", {
  billable: false,
  metadata: { providerStatus: "503" },
});

/** Pods that share their counters, with providers that fail while a test says so. */
class Pods implements Provider {
  readonly clock = new HandClock();
  readonly calls: ProviderCall[] = [];
  /** Why a deployment fails, or "silent", "cut", or "slow": by its id. */
  readonly failing = new Map<string, Error | "silent" | "cut" | "slow">();
  readonly logged: string[] = [];
  readonly health = new Health({ clock: this.clock, board: sampleBoard(this.clock) });
  readonly snapshots: Snapshots;
  readonly checks: readonly HealthChecks[];
  readonly report: HealthReport;
  /** At once, and at most. */
  readonly running = { now: 0, most: 0 };

  constructor(
    deployments: readonly Deployment[],
    options: { router?: Partial<RouterConfig>; pods?: number; counters?: Pick<Counters, "take"> } = {},
  ) {
    const { health, clock } = this;
    const router = sampleRouter({ checksSteer: true, ...options.router });
    const counters = options.counters ?? createMemoryCounters({ clock });
    const facts = {
      loadOf: (deployment: Deployment) => health.loadOf(deployment),
      stateOf: (deployment: Deployment) => health.stateOf(deployment),
      spentOf: () => undefined,
    };
    this.snapshots = new Snapshots({
      config: sampleConfig(deployments, { router }),
      routerOf: (config: Config) =>
        new Router({ config, facts, random: () => 0, behindWildcard: (wildcard, model) => ({ ...wildcard, model }) }),
    });
    const log = (_level: string, message: string, told?: Readonly<Record<string, unknown>>) =>
      void this.logged.push(`${message} ${JSON.stringify(told)}`);
    this.checks = Array.from({ length: options.pods ?? 1 }, (_, index) => {
      const parts = {
        rules: { intervalMs },
        snapshots: this.snapshots,
        providerOf: () => this,
        health,
        counters,
        clock,
      };
      return new HealthChecks({ ...parts, telemetry: { log }, random: () => index / 10 });
    });
    this.report = new HealthReport({ snapshots: this.snapshots, health, checks: this.checks[0] });
    for (const checks of this.checks) checks.start();
  }

  async *complete(call: ProviderCall): AsyncGenerator<CompletionEvent, void, undefined> {
    this.calls.push(call);
    const failure = this.failing.get(call.deployment.id);
    this.running.most = Math.max(this.running.most, ++this.running.now);
    try {
      if (failure === "silent") await pause(this.clock, call.timeoutMs, call.signal);
      if (failure === "slow") await pause(this.clock, 1_000, call.signal);
      if (failure instanceof Error) throw failure;
      if (failure === undefined || failure === "slow") yield end;
    } finally {
      this.running.now -= 1;
    }
  }

  get asked(): readonly string[] {
    return this.calls.map(({ deployment }) => `${deployment.id} ${deployment.model}`);
  }

  stateOf(id: string): unknown {
    const [entry] = this.report.of(undefined).filter(({ deployment }) => deployment.id === id);
    assert.ok(entry);
    return this.health.stateOf(entry.deployment);
  }

  complaints(): Readonly<Record<string, string | undefined>> {
    return Object.fromEntries(this.report.of(undefined).map((entry) => [entry.deployment.id, entry.complaint]));
  }
}

const pair = [sampleDeployment({ id: "a" }), sampleDeployment({ id: "b" })];

describe("health checks", () => {
  test("ask each deployment once an interval for one token, by one pod of all", async () => {
    const pods = new Pods(pair, { pods: 3 });
    await pods.clock.advance(1_000);
    assert.deepEqual(pods.asked, ["a provider-model", "b provider-model"]);
    const [first] = pods.calls;
    assert.deepEqual(first?.request.chat(), {
      ...{ model: "health-check", max_tokens: 1 },
      messages: [{ role: "user", content: "hi" }],
    });
    assert.equal(first?.timeoutMs, 5_000);
    await pods.clock.advance(10 * intervalMs);
    assert.equal(pods.calls.length, 22, "two deployments, eleven rounds, one pod each time");
  });

  test("take a deployment with siblings out at the first failure, and put it back when it answers", async () => {
    const pods = new Pods(pair, {
      router: { cooldown: { ...sampleRouter().cooldown, cooldownMs: 600_000 } },
    });
    pods.failing.set("a", down);
    await pods.clock.advance(1_000);
    assert.deepEqual(pods.complaints(), { a: "provider_error (HTTP 503)", b: undefined });
    assert.equal(typeof pods.stateOf("a"), "object");
    assert.equal(pods.stateOf("b"), "up");
    pods.failing.clear();
    await pods.clock.advance(intervalMs);
    assert.equal(pods.stateOf("a"), "up");
    assert.deepEqual(pods.complaints(), { a: undefined, b: undefined });
    assert.equal(pods.logged.length, 2);
    assert.match(pods.logged[0] ?? "", /^A health check failed. .*"deployment":"a".*provider_error/);
    assert.doesNotMatch(pods.logged.join(), /sk-live/);
  });

  test("do not end what a provider has asked for by a rate limit, nor what began while they waited", async () => {
    const pods = new Pods(pair, { router: { cooldown: { ...sampleRouter().cooldown, cooldownMs: 600_000 } } });
    const fail = (id: string, code: "provider_rate_limited" | "provider_auth_failed") =>
      pods.health.failed(
        sampleDeployment({ id }),
        new ProviderFailure(code, "No.", { billable: false }),
        pods.snapshots.current.router.config.cooldown,
        true,
      );
    fail("a", "provider_rate_limited");
    pods.failing.set("b", "slow");
    await pods.clock.advance(500);
    fail("b", "provider_auth_failed");
    await pods.clock.advance(5_000);
    assert.deepEqual(pods.complaints(), { a: "provider_rate_limited", b: "provider_auth_failed" });
    await pods.clock.advance(intervalMs);
    assert.deepEqual(pods.complaints(), { a: "provider_rate_limited", b: undefined }, "b was asked again since");
  });

  test("leave a model's only deployment to the usual rules, and obey who says how much may fail", async () => {
    const alone = new Pods([sampleDeployment({ id: "a" })]);
    alone.failing.set("a", down);
    await alone.clock.advance(1_000);
    assert.equal(alone.stateOf("a"), "up");
    assert.deepEqual(alone.complaints(), { a: "provider_error (HTTP 503)" });
    const patient = new Pods([sampleDeployment({ id: "a", cooldown: { allowedFails: 1 } }), ...pair.slice(1)]);
    patient.failing.set("a", down);
    await patient.clock.advance(1_000);
    assert.equal(patient.stateOf("a"), "up");
  });

  test("only tell, without enable_health_check_routing", async () => {
    const pods = new Pods(pair, { router: { checksSteer: false } });
    pods.failing.set("a", down);
    await pods.clock.advance(1_000);
    assert.equal(pods.stateOf("a"), "up");
    assert.deepEqual(pods.complaints(), { a: "provider_error (HTTP 503)", b: undefined });
  });

  test("tell of an answer that broke off", async () => {
    const pods = new Pods(pair);
    pods.failing.set("b", "cut");
    await pods.clock.advance(1_000);
    assert.deepEqual(pods.complaints(), { a: undefined, b: "stream_interrupted" });
  });

  test("forget what they found out when nobody has asked for two intervals, or the deployment is gone", async () => {
    const pods = new Pods(pair, { router: { checksSteer: false } });
    pods.failing.set("a", down);
    await pods.clock.advance(1_000);
    await pods.checks[0]?.close();
    await pods.clock.advance(2 * intervalMs - 1_001);
    assert.equal(pods.complaints().a, "provider_error (HTTP 503)");
    await pods.clock.advance(2);
    assert.equal(pods.complaints().a, undefined);
    assert.equal(pods.calls.length, 2, "nothing is asked after the end");
  });

  test("ask each kind of model what it is for, by the model and time the deployment says, and some not at all", async () => {
    const facts = [
      { id: "embedding", mode: "embedding" },
      { id: "ranking", mode: "rerank" },
      { id: "pictures", mode: "image_generation" },
      { id: "bedrock-embedding", mode: "embedding", wire: "bedrock-converse" },
      { id: "not-asked", check: { disabled: true } },
      { id: "wild", model: "*", modelGroup: "openai/*" },
      { id: "wild-with-model", model: "*", modelGroup: "o/*", check: { model: "openai/small", timeoutMs: 700 } },
    ] as const;
    const pods = new Pods(facts.map((fact) => sampleDeployment(fact)));
    await pods.clock.advance(1_000);
    assert.deepEqual(pods.asked, ["embedding provider-model", "ranking provider-model", "wild-with-model small"]);
    assert.deepEqual(
      pods.calls.map(({ request, timeoutMs }) => [request.operation, timeoutMs]),
      [
        ["embeddings", 5_000],
        ["rerank", 5_000],
        ["chat", 700],
      ],
    );
  });

  test("do not wait for a silent deployment to ask others, nor ask more than eight at once", async () => {
    const many = Array.from({ length: 20 }, (_, index) => sampleDeployment({ id: `d${index}` }));
    const pods = new Pods(many);
    for (const { id } of many.slice(1)) pods.failing.set(id, "silent");
    await pods.clock.advance(1_000);
    assert.equal(pods.running.most, 8);
    await pods.clock.advance(20_000);
    assert.equal(pods.calls.length, 20);
  });

  test("ask nobody while the counters are away, and go on when they are back", async () => {
    const counters = createMemoryCounters({ clock: new HandClock() });
    let away = true;
    const take: Counters["take"] = (...claims) =>
      away ? Promise.reject(new CountersUnavailable("away")) : counters.take(...claims);
    const pods = new Pods(pair, { counters: { take } });
    await pods.clock.advance(2 * intervalMs);
    assert.equal(pods.calls.length, 0);
    away = false;
    await pods.clock.advance(intervalMs);
    assert.equal(pods.calls.length, 2);
  });

  test("are broken off at the end, which says nothing of the deployment", async () => {
    const pods = new Pods(pair);
    pods.failing.set("a", "silent");
    await pods.clock.advance(1_000);
    await pods.checks[0]?.close();
    assert.equal(pods.running.now, 0);
    assert.deepEqual(pods.complaints(), { a: undefined, b: undefined });
    assert.equal(pods.stateOf("a"), "up");
  });
});

test("without checks it is told what cools, and what nobody has tried since", async () => {
  const pods = new Pods(pair);
  const report = new HealthReport({ snapshots: pods.snapshots, health: pods.health, checks: undefined });
  const complaints = () => report.of("m").map(({ complaint }) => complaint);
  assert.deepEqual(complaints(), [undefined, undefined]);
  const denied = new ProviderFailure("provider_auth_failed", "No.", { billable: false });
  pods.health.failed(sampleDeployment({ id: "a" }), denied, sampleRouter().cooldown, true);
  assert.deepEqual(complaints(), ["provider_auth_failed", undefined]);
  await pods.checks[0]?.close();
  await pods.clock.advance(5_000);
  assert.deepEqual(complaints(), ["it failed, and nobody has tried it since", undefined]);
  assert.deepEqual(
    report.of("b").map(({ deployment }) => deployment.id),
    ["b"],
  );
  assert.deepEqual(report.of("other"), []);
});
