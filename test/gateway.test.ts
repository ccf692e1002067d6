import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CallEvent, SettledEvent } from "../src/completion.ts";
import { GatewayError, ProviderFailure } from "../src/errors.ts";
import { answer, GatewayStage, type Step, usage } from "./gateway-stage.ts";
import { sampleGrant } from "./keys/samples.ts";
import { all, sampleConfig, sampleDeployment, sampleRequest, sampleRouter } from "./sample-call.ts";

const cost = 10n * 1_000n + 7n * 2_000n;
const down = () => new ProviderFailure("provider_unavailable", "Down.", { billable: false });
const gone = new GatewayError("client_closed_request", "The caller went away.");
const two = [sampleDeployment({ id: "a" }), sampleDeployment({ id: "b" })];
const oneRetry = { router: sampleRouter({ retries: 1 }) } as const;
const noRetries = { router: sampleRouter({ retries: 0 }) } as const;

describe("a call that succeeds", () => {
  test("gives `accepted`, the answer and `settled`, and is booked at what the provider reported", async () => {
    const stage = new GatewayStage();
    const events = await stage.answered();
    assert.deepEqual(
      events.map(({ type }) => type),
      ["accepted", "start", "delta", "finish", "settled"],
    );
    const [record] = await stage.rest();
    assert.equal(record?.cost, cost);
    assert.equal(record?.status, "success");
    assert.equal(record?.providerResponseId, "up-1");
    assert.deepEqual(stage.ends, { calls: ["ok"], attempts: ["ok"] });
  });

  test("is in the journal, and its slot free, before the last event is out", async () => {
    const stage = new GatewayStage();
    const read = async () => {
      for await (const event of stage.call()) {
        if (event.type !== "settled") continue;
        assert.equal(stage.records.length, 1);
        assert.equal((await stage.counters.take([slot])).ok, true);
      }
    };
    const slot = { kind: "slot", group: "key:key_1", name: "parallel", ceiling: 1, ttlMs: 1 } as const;
    await stage.pass(read());
  });

  test("costs what came in and out when the provider reports no usage, but never more than was reserved", async () => {
    const stage = new GatewayStage();
    const end = { type: "end", usage: undefined, responseId: undefined, raw: undefined } as const;
    stage.provider.scripts = [
      [{ type: "raw", bytes: Buffer.from("x"), outputTokens: 30 }, end],
      [{ type: "raw", bytes: Buffer.from("x"), outputTokens: 1_000_000 }, end],
      [{ ...end, raw: Buffer.from("whole"), outputTokens: 12 }],
      [{ type: "delta", choice: 0, text: "x".repeat(20), toolCalls: [{ index: 0, arguments: "y".repeat(20) }] }, end],
    ];
    const request = sampleRequest();
    const settled: (SettledEvent | undefined)[] = [];
    for (let call = 0; call < 4; call++) settled.push((await stage.answered({ request })).at(-1) as SettledEvent);
    const inputCost = BigInt(Math.ceil(request.inputTokensMax / 4)) * 1_000n;
    const reserved = BigInt(request.inputTokensMax) * 1_000n + 100n * 2_000n;
    assert.deepEqual(
      settled.map((event) => event?.cost),
      [inputCost + 60_000n, reserved, inputCost + 24_000n, inputCost + 20_000n],
    );
    assert.ok((await stage.rest()).every((record) => record.usageEstimated));
  });
});

describe("a reader that leaves", () => {
  const count = answer.length + 1;
  for (let position = 1; position <= count; position++) {
    test(`after event ${position} of ${count}: booked once, everything is given back`, async () => {
      const stage = new GatewayStage();
      const call = stage.call();
      const read = async () => {
        for (let taken = 0; taken < position; taken++) assert.equal((await call.next()).done, false);
        await call.return(undefined);
      };
      await stage.pass(read());
      const [record] = await stage.rest();
      const isWhole = position === count;
      assert.equal(record?.status, isWhole ? "success" : "cancelled");
      assert.equal(record?.usageEstimated, !isWhole);
      assert.ok((record?.cost ?? 0n) > 0n, "aborting early is not free");
    });
  }

  test("at the head of an answer that is whole already: booked at what the provider reported", async () => {
    const stage = new GatewayStage();
    stage.provider.scripts = [[{ type: "end", usage, responseId: "r", raw: Buffer.from("{}") }]];
    const call = stage.call();
    assert.equal((await stage.pass(call.next())).value?.type, "accepted");
    await stage.pass(call.return(undefined));
    const [record] = await stage.rest();
    assert.equal(record?.cost, cost);
    assert.equal(record?.status, "success");
  });
});

describe("a caller that goes away", () => {
  for (const [place, afterMs] of [
    ["while its key is looked up", 1],
    ["while money is borrowed for it", 6],
  ] as const) {
    test(`${place}: no attempt is made, nothing is booked`, async () => {
      const stage = new GatewayStage();
      const abort = new AbortController();
      stage.clock.after(afterMs, () => abort.abort(gone));
      const { error, events } = await stage.failed({ signal: abort.signal });
      assert.equal(error, gone);
      assert.deepEqual(events, []);
      assert.equal((await stage.rest()).length, 0);
      assert.deepEqual(stage.ends, { calls: ["client_closed_request"], attempts: [] });
    });
  }

  for (const [place, script, billable] of [
    ["before the provider's first event", ["wait"], true],
    ["in the middle of the answer", [...answer.slice(0, 2), "wait"], true],
  ] as const) {
    test(`${place}: the attempt is cancelled and booked as an estimate`, async () => {
      const stage = new GatewayStage();
      const abort = new AbortController();
      stage.provider.scripts = [[() => setImmediate(() => abort.abort(gone)), ...script]];
      const { error } = await stage.failed({ signal: abort.signal });
      assert.equal(error, gone);
      const [record] = await stage.rest();
      assert.equal(record?.status, "cancelled");
      assert.equal((record?.cost ?? 0n) > 0n, billable);
      assert.equal(stage.provider.calls.length, 1);
    });
  }

  test("in the pause before a repetition: no further attempt", async () => {
    const stage = new GatewayStage();
    const abort = new AbortController();
    stage.provider.scripts = [[() => stage.clock.after(100, () => abort.abort(gone)), down()]];
    const { error } = await stage.failed({ signal: abort.signal });
    assert.equal(error, gone);
    assert.equal((await stage.rest()).length, 1);
  });
});

describe("a provider that fails", () => {
  test("before its first event: another deployment answers at once, and each attempt is booked", async () => {
    const stage = new GatewayStage({ deployments: two });
    stage.provider.scripts = [[down()], answer];
    const startedMs = stage.clock.monotonicMs();
    const [accepted] = await stage.answered();
    assert.ok(stage.clock.monotonicMs() - startedMs < 100, "there is elsewhere: no pause");
    assert.deepEqual(
      stage.provider.calls.map(({ deployment }) => deployment.id),
      ["a", "b"],
    );
    assert.equal(accepted?.type === "accepted" && accepted.attempts, 2);
    const records = await stage.rest();
    assert.deepEqual(
      records.map((record) => [record.attempt, record.status, record.cost]),
      [
        [1, "failure", 0n],
        [2, "success", cost],
      ],
    );
    assert.deepEqual(stage.ends, { calls: ["ok"], attempts: ["provider_unavailable", "ok"] });
  });

  test("everywhere: the gateway pauses before it starts over, and tells the caller's SDK not to go on", async () => {
    const stage = new GatewayStage({ deployments: two });
    stage.provider.scripts = [[down()], [down()], [down()]];
    const startedMs = stage.clock.monotonicMs();
    const { error } = await stage.failed();
    assert.ok(stage.clock.monotonicMs() - startedMs >= 1_000);
    assert.equal(error.code, "provider_unavailable");
    assert.equal(error.shouldRetry, false);
    assert.match(error.message, /after 3 attempts/);
    assert.equal((await stage.rest()).length, 3);
  });

  test("holds no money while the gateway pauses", async () => {
    const stage = new GatewayStage();
    stage.provider.scripts = [[down()]];
    const answered = all(stage.call());
    for (let step = 0; step < 20; step++) await stage.clock.advance(5);
    assert.equal(stage.provider.calls.length, 1);
    assert.equal(stage.leases.stats().reserved, 0n);
    await stage.pass(answered);
    assert.equal((await stage.rest()).length, 2);
  });

  test("after its first event: is not repeated, the caller sees what came, and what came is booked", async () => {
    const stage = new GatewayStage({ deployments: two });
    stage.provider.scripts = [[...answer.slice(0, 2), down()]];
    const { error, events } = await stage.failed();
    assert.equal(error.code, "provider_unavailable");
    assert.equal(error.shouldRetry, true, "the gateway has not repeated it itself");
    assert.deepEqual(
      events.map(({ type }) => type),
      ["accepted", "start", "delta"],
    );
    const [record] = await stage.rest();
    assert.equal(record?.status, "failure");
    assert.ok((record?.cost ?? 0n) > 0n);
  });

  test("without a word: an answer that stops is no answer", async () => {
    const stage = new GatewayStage({ config: noRetries });
    stage.provider.scripts = [answer.slice(0, 3)];
    assert.equal((await stage.failed()).error.code, "stream_interrupted");
    await stage.rest();
  });

  test("by a timeout: may charge for it, so the caller is charged; by a bug of ours likewise", async () => {
    const stage = new GatewayStage({ config: noRetries });
    const late = new ProviderFailure("provider_timeout", "Late.", { billable: true });
    stage.provider.scripts = [[late], [new TypeError("a bug")]];
    assert.equal((await stage.failed()).error.code, "provider_timeout");
    const { error } = await stage.failed();
    assert.equal(error.code, "internal_error");
    assert.doesNotMatch(error.message, /a bug/);
    for (const record of await stage.rest()) assert.ok(record.cost > 0n);
  });

  test("with what the caller got wrong: is not repeated", async () => {
    const stage = new GatewayStage({ deployments: two });
    stage.provider.scripts = [[new ProviderFailure("provider_rejected", "No.", { billable: false })]];
    assert.equal((await stage.failed()).error.code, "provider_rejected");
    assert.equal((await stage.rest()).length, 1);
  });

  test("over its own settings: is tried elsewhere, but not again", async () => {
    const refused = new ProviderFailure("provider_auth_failed", "No.", { billable: false });
    const pair = new GatewayStage({ deployments: two });
    pair.provider.scripts = [[refused], answer];
    await pair.answered();
    await pair.rest();
    const alone = new GatewayStage();
    alone.provider.scripts = [[refused], answer];
    assert.equal((await alone.failed()).error.code, "provider_auth_failed");
    assert.equal((await alone.rest()).length, 1);
  });

  test("and asks for more than half a minute: is left alone, but others are tried", async () => {
    const busy = new ProviderFailure("provider_rate_limited", "Busy.", { billable: false, retryAfterMs: 60_000 });
    const pair = new GatewayStage({ deployments: two });
    pair.provider.scripts = [[busy], answer];
    await pair.answered();
    await pair.rest();
    const alone = new GatewayStage();
    alone.provider.scripts = [[busy], answer];
    assert.equal((await alone.failed()).error.facts.retryAfterMs, 60_000);
    assert.equal((await alone.rest()).length, 1);
  });

  test("and asks for a while: gets it", async () => {
    const stage = new GatewayStage();
    const busy = new ProviderFailure("provider_rate_limited", "Busy.", { billable: false, retryAfterMs: 7_000 });
    stage.provider.scripts = [[busy], answer];
    const startedMs = stage.clock.monotonicMs();
    await stage.answered();
    assert.ok(stage.clock.monotonicMs() - startedMs >= 7_000);
    await stage.rest();
  });
});

describe("a call that is not admitted", () => {
  const refusals: readonly [string, ConstructorParameters<typeof GatewayStage>[0], string][] = [
    ["of a blocked key", { grant: { blocked: true } }, "blocked_key"],
    ["of an expired key", { grant: { expiresAtMs: 1 } }, "expired_key"],
    ["of a key without the model", { grant: { models: ["other"] } }, "model_not_allowed"],
    ["of a model nobody has", { deployments: [sampleDeployment({ modelGroup: "n" })] }, "model_not_found"],
    ["over its budget", { grant: { budgets: sampleGrant("key_1", 1n).payer.budgets } }, "budget_exceeded"],
    [
      "of a model without a price, with a budget",
      { deployments: [sampleDeployment({ price: undefined })] },
      "unpriced_model",
    ],
  ];
  for (const [name, options, code] of refusals) {
    test(`${name} reaches no provider and holds nothing`, async () => {
      const stage = new GatewayStage(options);
      assert.equal((await stage.failed()).error.code, code);
      assert.equal((await stage.rest()).length, 0);
      assert.deepEqual(stage.ends, { calls: [code], attempts: [] });
    });
  }

  test("without a key, or with one nobody knows, is refused as such", async () => {
    const stage = new GatewayStage();
    assert.equal((await stage.failed({ token: "" })).error.code, "missing_api_key");
    assert.equal((await stage.failed({ token: "sk-stranger" })).error.code, "invalid_api_key");
    await stage.rest();
  });

  test("is refused while the one before holds the only slot, and admitted after it", async () => {
    const stage = new GatewayStage();
    const first = stage.call();
    await stage.pass(first.next());
    const { error } = await stage.failed();
    assert.equal(error.code, "rate_limit_exceeded");
    assert.ok((error.facts.retryAfterMs ?? 0) > 0);
    const rest = async () => {
      for await (const _ of first);
    };
    await stage.pass(rest());
    await stage.answered();
    assert.equal((await stage.rest()).length, 2);
  });

  test("without the KeyService is told to come back, and told nothing about the key", async () => {
    const stage = new GatewayStage();
    stage.authority.trouble.away = true;
    assert.equal((await stage.failed()).error.code, "keyservice_unavailable");
    await stage.rest();
  });
});

test("a budget used up between two attempts ends the call, and the first attempt stays booked", async () => {
  const reserved = BigInt(sampleRequest().inputTokensMax) * 1_000n + 100n * 2_000n;
  const stage = new GatewayStage({
    grant: { budgets: sampleGrant("key_1", reserved).payer.budgets },
    config: oneRetry,
  });
  const late: Step = new ProviderFailure("provider_timeout", "Late.", { billable: true });
  stage.provider.scripts = [[late], answer];
  const { error } = await stage.failed();
  assert.equal(error.code, "budget_exceeded");
  assert.equal(error.shouldRetry, false);
  const records = await stage.rest();
  assert.deepEqual(
    records.map(({ status }) => status),
    ["failure"],
  );
});

describe("the output cap", () => {
  const capsOf = async (stage: GatewayStage, fields: object = {}): Promise<(number | undefined)[]> => {
    await stage.answered({ request: sampleRequest(fields) });
    const records = await stage.rest();
    assert.equal(records.length, stage.provider.calls.length);
    return stage.provider.calls.map((call) => call.outputTokensMax);
  };

  test("is the deployment's own where money depends on it and the caller named none", async () => {
    const long = sampleDeployment({ id: "b", outputTokensMax: 5_000 });
    const stage = new GatewayStage({ deployments: [sampleDeployment({ id: "a" }), long] });
    stage.provider.scripts = [[down()], answer];
    assert.deepEqual(await capsOf(stage), [100, 5_000]);
  });

  test("is the caller's if it named one, and nobody's if nothing depends on it", async () => {
    assert.deepEqual(await capsOf(new GatewayStage(), { max_tokens: 5 }), [undefined]);
    assert.deepEqual(await capsOf(new GatewayStage({ grant: { budgets: [] } })), [undefined]);
  });

  test("leaves a key no longer answer than its tokens per minute", async () => {
    const limits = [{ scope: "key", scopeId: "key_1", kind: "tokens", ceiling: 60 }] as const;
    const likely = Math.ceil(sampleRequest().inputTokensMax / 4);
    assert.deepEqual(await capsOf(new GatewayStage({ grant: { limits, budgets: [] } })), [60 - likely]);
  });
});

test("tokens per minute are corrected to what was really used", async () => {
  const limits = [{ scope: "key", scopeId: "key_1", kind: "tokens", ceiling: 120 }] as const;
  const stage = new GatewayStage({ grant: { limits } });
  const remaining: number[] = [];
  for (let call = 0; call < 3; call++) {
    const [accepted] = (await stage.answered({ request: sampleRequest({ max_tokens: 20 }) })) as CallEvent[];
    if (accepted?.type === "accepted") remaining.push(accepted.limits[0]?.remaining ?? -1);
  }
  const used = usage.inputTokens + usage.outputTokens;
  const reserved = Math.ceil(sampleRequest({ max_tokens: 20 }).inputTokensMax / 4) + 20;
  assert.deepEqual(remaining, [120 - reserved, 120 - used - reserved, 120 - 2 * used - reserved]);
});

for (const [countedTokens, reserved, used] of [
  ["input", Math.ceil(sampleRequest({ max_tokens: 20 }).inputTokensMax / 4), usage.inputTokens],
  ["output", 20, usage.outputTokens],
] as const) {
  test(`tokens per minute count ${countedTokens} alone where the configuration says so`, async () => {
    const limits = [{ scope: "key", scopeId: "key_1", kind: "tokens", ceiling: 120 }] as const;
    const stage = new GatewayStage({ grant: { limits }, config: { countedTokens } });
    const remaining: number[] = [];
    for (let call = 0; call < 2; call++) {
      const [accepted] = (await stage.answered({ request: sampleRequest({ max_tokens: 20 }) })) as CallEvent[];
      if (accepted?.type === "accepted") remaining.push(accepted.limits[0]?.remaining ?? -1);
    }
    assert.deepEqual(remaining, [120 - reserved, 120 - used - reserved]);
  });
}

test("a model's limit of its own refuses calls to it in its name, and no others", async () => {
  const limit = { scope: "model_per_team", scopeId: "team_1:gpt-*", kind: "requests", ceiling: 1 } as const;
  const deployments = ["gpt-x", "other"].map((modelGroup) => sampleDeployment({ id: modelGroup, modelGroup }));
  const stage = new GatewayStage({ deployments, grant: { modelLimits: [{ model: "gpt-*", limit }] } });
  await stage.answered({ request: sampleRequest({ model: "gpt-x" }) });
  const { error } = await stage.failed({ request: sampleRequest({ model: "gpt-x" }) });
  assert.equal(error.code, "rate_limit_exceeded");
  assert.match(error.message, /^Rate limit exceeded for model_per_team: team_1:gpt-\*\. Limit type: requests\./);
  await stage.answered({ request: sampleRequest({ model: "other" }) });
  await stage.rest();
});

describe("a configuration that changes", () => {
  const [before, after] = ["before", "after"].map((id) => sampleDeployment({ id, model: id }));
  const changed = sampleConfig(after === undefined ? [] : [after], noRetries);

  test("is that of the calls that begin from then on; a call under way keeps what it began with, retries too", async () => {
    const stage = new GatewayStage({ deployments: before === undefined ? [] : [before], config: oneRetry });
    const change = () => stage.snapshots.reload(changed);
    stage.provider.scripts = [[change, down()], answer];
    assert.equal((await stage.answered()).at(-1)?.type, "settled");
    await stage.answered();
    assert.deepEqual(
      stage.provider.calls.map(({ deployment }) => deployment.id),
      ["before", "before", "after"],
    );
    await stage.rest();
  });

  test("may take a model away: calls to it under way end well, later ones find none", async () => {
    const stage = new GatewayStage();
    stage.provider.scripts = [[() => stage.snapshots.reload(sampleConfig([])), ...answer]];
    assert.equal((await stage.answered()).at(-1)?.type, "settled");
    assert.equal((await stage.failed()).error.code, "model_not_found");
    assert.deepEqual(await stage.pass(stage.gateway.listModels("sk-caller")), []);
    await stage.rest();
  });
});

describe("the list of models", () => {
  test("has what the key may use and the configuration has, aliases included", async () => {
    const deployments = ["a1", "a2", "b", "c/*"].map((modelGroup) => sampleDeployment({ id: modelGroup, modelGroup }));
    const aliases = new Map([
      ["shown", { group: "a1", hidden: false }],
      ["hidden", { group: "a1", hidden: true }],
    ]);
    const own = new Map([
      ["mine", "a2"],
      ["nowhere", "a3"],
    ]);
    const stage = new GatewayStage({ deployments, config: { aliases }, grant: { models: ["a*"], aliases: own } });
    assert.deepEqual(await stage.pass(stage.gateway.listModels("sk-caller")), ["a1", "a2", "mine", "shown"]);
  });
});

test("a deployment's id in place of a model's name is that deployment alone, for keys that may use its model", async () => {
  const stage = new GatewayStage({ deployments: two, grant: { models: ["m"] } });
  await stage.answered({ request: sampleRequest({ model: "b" }) });
  await stage.answered({ request: sampleRequest({ model: "b" }) });
  assert.deepEqual(
    stage.provider.calls.map(({ deployment }) => deployment.id),
    ["b", "b"],
  );
  assert.deepEqual(
    (await stage.rest()).map(({ modelGroup }) => modelGroup),
    ["m", "m"],
  );
  const stranger = new GatewayStage({ deployments: two, grant: { models: ["other"] } });
  assert.equal((await stranger.failed({ request: sampleRequest({ model: "b" }) })).error.code, "model_not_allowed");
});
