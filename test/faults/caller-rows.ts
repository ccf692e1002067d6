import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { accountOf, audit, quiesce, usd } from "./audit.ts";
import { moneyFacts, type Row, type Scene, seconds } from "./row.ts";
import { call, type TrafficKey } from "./traffic.ts";
import { eventually, type Pod, pause, ready } from "./world.ts";

/** How long an idempotency key may stay taken by a call that died with its pod. */
const keyFreeMs = 31_000;
/** Where the sidecar cuts off a reader that has stopped reading. */
const stallMs = 60_000;

export const callerRows: readonly Row[] = [
  {
    name: "28",
    fault: "callers go away in the middle of streams, at a random moment",
    promise: "the provider's stream is ended within 1 s; what came is booked, never nothing, never more than reserved",
    isQuick: true,
    run: callersLeave,
  },
  {
    name: "29",
    fault: "callers that stop reading endless streams",
    promise: `memory stays bounded; the stream is ended after ${stallMs / 1000} s, and what came is booked`,
    run: callersDoNotRead,
  },
  {
    name: "30",
    fault: "1,000 calls at once over five pods against the last $0.01, 20 times",
    promise:
      "exactly as many pass as the budget can pay, the rest gets 429; the bill never passes the budget; what was not used is usable afterwards",
    world: { sidecars: 5 },
    run: (scene) => bursts(scene, 1000, 20),
  },
  {
    name: "30 (short)",
    fault: "200 calls at once over all pods against the last $0.01",
    promise: "as 30",
    isQuick: true,
    run: (scene) => bursts(scene, 200, 1),
  },
  {
    name: "31",
    fault:
      "the same Idempotency-Key in 30 calls at once over all pods, and again afterwards; and its pod killed in the middle of a call",
    promise: `one call upstream, one row; the others get 409 at once: to be retried while it is under way, and not afterwards; after a crash it is free within ${keyFreeMs / 1000} s`,
    run: onlyOnce,
  },
];

async function callersLeave(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const key = await scene.key("leaving", { max_budget: 100 });
  const callsMax = scene.isQuick ? 20 : 200;
  let slowestMs = 0;
  const leave = async (number: number) => {
    const abort = new AbortController();
    const answer = await fetch(`${world.pod(number % world.pods.length).url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key.secret}`, "content-type": "application/json" },
      body: JSON.stringify({
        ...{ model: "endless", stream: true, max_tokens: 10_000, user: key.name },
        messages: [{ role: "user", content: "Hello" }],
      }),
      signal: abort.signal,
    });
    const reader = answer.body?.getReader();
    const first = await reader?.read();
    const id = /"id":"(up-\d+)"/.exec(Buffer.from(first?.value ?? []).toString())?.[1];
    const bill = world.bills.all.find(({ responseId }) => responseId === id);
    assert.ok(bill !== undefined, "the stream does not say which it is");
    const untilMs = performance.now() + Math.random() * 500;
    while (performance.now() < untilMs) await reader?.read();
    abort.abort();
    const leftAtMs = performance.now();
    await eventually("the provider's stream is ended", async () => bill.call.aborted, 2000);
    slowestMs = Math.max(slowestMs, performance.now() - leftAtMs);
  };
  for (let number = 0; number < callsMax; number += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, index) => leave(number + index)));
  }
  assert.ok(slowestMs < 1000, `a stream went on for ${slowestMs} ms`);
  await quiesce(world, [key]);
  const result = await audit(world, key);
  assert.deepEqual(result.faults, []);
  const rows = await world.query<{ cost_nanos: bigint; reserved_nanos: bigint; provider_response_id: string }>(
    "SELECT cost_nanos, reserved_nanos, provider_response_id FROM spend_log WHERE key_id = $1",
    [key.keyId],
  );
  assert.equal(rows.length, callsMax, "each call is booked once");
  for (const { cost_nanos, reserved_nanos } of rows) assert.ok(cost_nanos > 0n && cost_nanos <= reserved_nanos);
  const difference = Number(result.ledger - result.bill) / Number(result.bill);
  assert.ok(Math.abs(difference) < 1.5, `the estimates are off by ${(100 * difference).toFixed(0)} %`);
  return [
    ...moneyFacts([result]),
    `${callsMax} streams left; the slowest was ended upstream after ${slowestMs.toFixed(0)} ms; estimates ${(100 * difference).toFixed(1)} % off`,
  ];
}

async function callersDoNotRead(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const key = await scene.key("unread", { max_budget: 1000 });
  const pod = world.pod(0);
  const before = residentBytes(pod);
  const streams = 50;
  const sockets = Array.from({ length: streams }, () => openAndNotRead(pod, key));
  const startMs = performance.now();
  let peak = before;
  await pause(3000);
  const isOver = () => world.bills.of(key.name).every(({ call: { aborted } }) => aborted);
  while (!isOver() && performance.now() - startMs < stallMs + 30_000) {
    peak = Math.max(peak, residentBytes(pod));
    await pause(500);
  }
  const tookMs = performance.now() - startMs;
  assert.equal(world.bills.of(key.name).length, streams);
  assert.ok(isOver(), "streams nobody reads go on");
  for (const socket of sockets) socket.destroy();
  const perStream = (peak - before) / streams;
  assert.ok(perStream < 8 * 2 ** 20, `${perStream} bytes a stream`);
  await quiesce(world, [key]);
  const rows = await world.query<{ cost_nanos: bigint; reserved_nanos: bigint }>(
    "SELECT cost_nanos, reserved_nanos FROM spend_log WHERE key_id = $1",
    [key.keyId],
  );
  assert.equal(rows.length, streams);
  for (const { cost_nanos, reserved_nanos } of rows) assert.ok(cost_nanos > 0n && cost_nanos <= reserved_nanos);
  return [
    `${streams} streams: ${(perStream / 2 ** 20).toFixed(2)} MB each at the most; all ended by ${seconds(tookMs)}, all booked`,
  ];
}

function openAndNotRead(pod: Pod, key: TrafficKey) {
  const { port } = new URL(pod.url);
  const body = JSON.stringify({
    ...{ model: "flood", stream: true, max_tokens: 1_000_000, user: key.name },
    messages: [{ role: "user", content: "Hello" }],
  });
  const socket = connect(Number(port), "127.0.0.1");
  socket.on("error", () => {});
  socket.pause();
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key.secret}\r\n` +
      `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  return socket;
}

function residentBytes(pod: Pod): number {
  const status = readFileSync(`/proc/${pod.process.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

/** Everybody wants the last cent at once. */
async function bursts(scene: Scene, callers: number, times: number): Promise<string[]> {
  const { world } = scene;
  const budget = 10_000_000n;
  const passed: number[] = [];
  const usable: number[] = [];
  let bill = 0n;
  for (let time = 0; time < times; time++) {
    const key = await scene.key(`burst-${time}`, { max_budget: Number(budget) / 1e9 });
    let open = () => {};
    world.bills.gate = new Promise((resolve) => {
      open = resolve;
    });
    const answers = Array.from({ length: callers }, (_, index) =>
      call(world.pod(index % world.pods.length), key, { model: "gated" }),
    );
    // Nothing is given back before every call is decided.
    let decided = 0;
    for (const answer of answers) void answer.then(() => decided++);
    await eventually("all calls are decided", async () => decided + world.bills.of(key.name).length >= callers, 60_000);
    open();
    const outcomes = await Promise.all(answers);
    const served = outcomes.filter(({ status }) => status === 200).length;
    assert.equal(served, world.bills.of(key.name).length, "an answer got lost");
    const others = outcomes.filter(({ code, status }) => status !== 200 && code !== "budget_exceeded");
    assert.equal(others.length, 0, `${others[0]?.status} ${others[0]?.code}`);
    await quiesce(world, [key]);
    const result = await audit(world, key);
    assert.deepEqual(result.faults, []);
    // Longer names of keys cost more: how many fit differs from time to time.
    const fits = Number(budget / ((await reserveOf(scene, key)) ?? budget));
    assert.equal(served, fits, `${served} calls passed, and ${fits} fit`);
    passed.push(served);
    bill = bill > result.bill ? bill : result.bill;
    usable.push(await useRest(scene, key));
    assert.deepEqual((await quietAudit(scene, key)).faults, []);
  }
  const [least, most] = [Math.min(...passed), Math.max(...passed)];
  return [
    `${times} × ${callers} calls over ${world.pods.length} pods: as many passed as fit, ${least === most ? least : `${least} or ${most}`}; the highest bill ${usd(bill)} of ${usd(budget)}`,
    `with what was left, ${Math.min(...usable)} to ${Math.max(...usable)} more calls were served, until less than one call's reservation was left`,
  ];
}

/** Everybody sends the same idempotency key. */
async function onlyOnce(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const key = await scene.key("once", { max_budget: 100 });
  const times = 20;
  let slowestMs = 0;
  for (let time = 0; time < times; time++) {
    const headers = { "idempotency-key": `order-${time}` };
    let open = () => {};
    world.bills.gate = new Promise((resolve) => {
      open = resolve;
    });
    const send = (index: number) => call(world.pod(index % world.pods.length), key, { model: "gated" }, headers);
    const answers = Array.from({ length: 30 }, (_, index) => send(index));
    const refused: Awaited<ReturnType<typeof send>>[] = [];
    for (const answer of answers) void answer.then((outcome) => outcome.status === 409 && refused.push(outcome));
    await eventually("all but one are refused", async () => refused.length === answers.length - 1);
    open();
    const outcomes = await Promise.all(answers);
    assert.equal(outcomes.filter(({ status }) => status === 200).length, 1);
    for (const { code, headers: answered, firstByteMs } of refused) {
      assert.deepEqual([code, answered?.get("x-should-retry")], ["duplicate_request", "true"]);
      slowestMs = Math.max(slowestMs, firstByteMs);
    }
    for (let pod = 0; pod < world.pods.length; pod++) {
      const { status, headers: answered } = await send(pod);
      assert.deepEqual([status, answered?.get("x-should-retry")], [409, "false"]);
    }
    assert.equal(world.bills.of(key.name).length, time + 1);
  }
  await quiesce(world, [key]);
  const result = await audit(world, key);
  assert.deepEqual(result.faults, []);
  const rows = await world.query("SELECT 1 FROM spend_log WHERE key_id = $1", [key.keyId]);
  assert.equal(rows.length, times);
  const facts = [
    ...moneyFacts([result]),
    `${times} keys, 30 calls each: one served; the slowest 409 after ${slowestMs.toFixed(0)} ms`,
  ];
  if (!scene.isQuick)
    facts.push(`free ${seconds(await freeAfterCrashMs(scene))} after a crash, and the call made again`);
  return facts;
}

/** Kills a pod in the middle of a call, and has its caller try again elsewhere. @returns how long until he is served. */
async function freeAfterCrashMs(scene: Scene): Promise<number> {
  const { world } = scene;
  const key = await scene.key("crash", { max_budget: 100 });
  const headers = { "idempotency-key": "order" };
  world.bills.gate = new Promise(() => {});
  const lost = call(world.pod(0), key, { model: "gated" }, headers);
  await eventually("the call is upstream", async () => world.bills.of(key.name).length === 1);
  await world.pod(0).process.kill("SIGKILL");
  const killedMs = performance.now();
  assert.equal((await lost).status, 0);
  world.bills.gate = Promise.resolve();
  for (;;) {
    const { status, code, headers: answered } = await call(world.pod(1), key, { model: "gated" }, headers);
    if (status === 200) break;
    assert.deepEqual([code, answered?.get("x-should-retry")], ["duplicate_request", "true"]);
    assert.ok(performance.now() - killedMs < keyFreeMs, "the key of a dead call stays taken");
    await pause(500);
  }
  const freeMs = performance.now() - killedMs;
  assert.equal((await call(world.pod(2), key, { model: "gated" }, headers)).headers?.get("x-should-retry"), "false");
  world.pod(0).process.restart();
  await ready(world.pod(0));
  await quiesce(world, [key]);
  assert.deepEqual((await audit(world, key)).faults, []);
  return freeMs;
}

async function reserveOf({ world }: Scene, key: TrafficKey): Promise<bigint | undefined> {
  const [row] = await world.query<{ reserved_nanos: bigint }>(
    "SELECT reserved_nanos FROM spend_log WHERE key_id = $1 AND attempt > 0 LIMIT 1",
    [key.keyId],
  );
  return row?.reserved_nanos;
}

/**
 * Calls, few at a time, until the budget refuses one. None may be refused while money for it is neither spent nor reserved.
 *
 * @returns how many were served.
 */
async function useRest(scene: Scene, key: TrafficKey): Promise<number> {
  const { world } = scene;
  const reserve = (await reserveOf(scene, key)) ?? 0n;
  for (let served = 0; ; ) {
    const answers = await Promise.all(world.pods.map((pod) => call(pod, key)));
    served += answers.filter(({ status }) => status === 200).length;
    const refusals = answers.filter(({ status }) => status !== 200);
    for (const { code } of refusals) assert.equal(code, "budget_exceeded");
    if (refusals.length === 0) continue;
    await quiesce(world, [key]);
    // A refusal is believed for a moment; and what other pods held has just come back.
    await pause(500);
    const { max, spent } = await accountOf(world, key.keyId);
    if ((max ?? 0n) - spent < reserve) return served;
    assert.equal(
      (await call(world.pod(0), key)).status,
      200,
      `refused with ${(max ?? 0n) - spent} unspent and unreserved`,
    );
    served++;
  }
}

async function quietAudit({ world }: Scene, key: TrafficKey) {
  await quiesce(world, [key]);
  return audit(world, key);
}
