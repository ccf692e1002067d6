/** Limits over several sidecars, at more length than `npm test` has time for; `test/e2e/deployment-limits.test.ts` has short forms. */

import assert from "node:assert/strict";
import { type Row, type Scene, seconds } from "./row.ts";
import { call } from "./traffic.ts";
import { eventually, figure, pause } from "./world.ts";

const rpm = 300;
const minuteMs = 60_000;
/** A minute, and what there is of the next one. */
const trafficMs = minuteMs + 10_000;
/** How long a slot outlives a pod that died with it. */
const slotTtlMs = 30_000;

/** Two cores shared by everything: where Redis is not waited for, each pod has its share, and that is another promise. */
const patient = { sidecarEnv: () => ({ TOLLGATE_REDIS_TIMEOUT_MS: "2000" }) };

export const limitRows: readonly Row[] = [
  {
    name: "33",
    fault: `five sidecars want far more of a deployment than its rpm of ${rpm}, for ${trafficMs / 1000} s`,
    promise: `it is called ${rpm} times at once, at most as often in any 60 s, and again as soon as they are over`,
    world: { ...patient, sidecars: 5, params: { quick: { rpm } } },
    run: deploymentRpm,
  },
  {
    name: "34",
    fault: "a sidecar killed (kill -9) that holds all slots of a deployment and all of a key",
    promise: `free again within ${slotTtlMs / 1000} s, and not before the sidecar can be taken for dead`,
    world: { ...patient, params: { gated: { max_parallel_requests: 2 } } },
    run: slotsOfTheDead,
  },
];

async function deploymentRpm(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const script = world.upstream.scripts.get("quick");
  /** When each call was sent, and when it came to the provider: in between its share of the limit was taken. */
  const served: { sentMs: number; arrivedMs: number }[] = [];
  const sentAtMs: number[] = [];
  world.upstream.scripts.set("quick", (made, ...parts) => {
    const { user } = JSON.parse(made.body) as { user: string };
    served.push({ sentMs: sentAtMs[Number(user)] ?? 0, arrivedMs: performance.now() });
    return script?.(made, ...parts);
  });
  const caller = await scene.key("many");
  const startMs = performance.now();
  const statuses = new Map<string, number>();
  const callers = Array.from({ length: 20 }, async (_, index) => {
    while (performance.now() - startMs < trafficMs) {
      const user = String(sentAtMs.push(performance.now()) - 1);
      const { status, code } = await call(world.pod(index % world.pods.length), caller, { user });
      const how = `${status} ${code}`.trim();
      statuses.set(how, (statuses.get(how) ?? 0) + 1);
      await pause(100);
    }
  });
  await Promise.all(callers);
  const alone = await Promise.all(world.pods.map((pod) => figure(pod, "tollgate_limits_degraded_total")));
  assert.deepEqual(new Set(alone), new Set([0]), "the machine is too slow: pods have decided without Redis");
  const inMinuteFrom = (fromMs: number) =>
    served.filter(({ sentMs, arrivedMs }) => sentMs >= fromMs && arrivedMs < fromMs + minuteMs).length;
  const most = Math.max(...served.map(({ sentMs }) => inMinuteFrom(sentMs)));
  assert.deepEqual([...statuses.keys()].sort(), ["200", "429 deployments_full"]);
  assert.equal(inMinuteFrom(startMs), rpm);
  assert.equal(most, rpm);
  assert.equal(served.length, statuses.get("200"), "what is refused reaches nobody");
  assert.ok(served.length > rpm, "the next minute has room again");
  const [last, next] = [served[rpm - 1], served[rpm]].map((each) => seconds((each?.arrivedMs ?? 0) - startMs));
  return [
    `${sentAtMs.length} calls, ${served.length} of them served; at most ${most} in any 60 s`,
    `the ${rpm}th came after ${last}, the next after ${next}`,
  ];
}

async function slotsOfTheDead(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const [caller, narrow] = [await scene.key("wide"), await scene.key("narrow", { max_parallel_requests: 2 })];
  const [victim, other] = [world.pod(0), world.pod(1)];
  let open = () => {};
  world.bills.gate = new Promise((resolve) => {
    open = resolve;
  });
  const held = [
    ...[call(victim, caller, { model: "gated" }), call(victim, caller, { model: "gated" })],
    ...[0, 1].map(() => call(victim, narrow, { model: "endless", stream: true, max_tokens: 10_000 })),
  ];
  await eventually("all are under way", async () => world.bills.all.length === held.length);
  const tries = async () => [
    (await call(other, caller, { model: "gated" })).status,
    (await call(other, narrow)).status,
  ];
  assert.deepEqual(await tries(), [429, 429]);
  await victim.process.kill("SIGKILL");
  const killedMs = performance.now();
  open();
  await Promise.all(held);
  assert.deepEqual(await tries(), [429, 429], "a crash frees nothing at once");
  const freeMs: (number | undefined)[] = [undefined, undefined];
  while (freeMs.includes(undefined)) {
    const afterMs = performance.now() - killedMs;
    assert.ok(afterMs < slotTtlMs + 2_000, "the slots are never free again");
    for (const [index, status] of (await tries()).entries()) if (status === 200) freeMs[index] ??= afterMs;
    await pause(200);
  }
  for (const ms of freeMs) assert.ok((ms ?? 0) > slotTtlMs / 3, `free after ${ms} ms`);
  return [
    `a slot of the deployment free after ${seconds(freeMs[0] ?? 0)}, of the key after ${seconds(freeMs[1] ?? 0)}`,
  ];
}
