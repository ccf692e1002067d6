import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { accountOf, audit, quiesce, usd } from "./audit.ts";
import { answerNanos } from "./bills.ts";
import { busiestMinute, limitedRpm, moneyFacts, onlyStatuses, type Row, type Scene } from "./row.ts";
import { call, type TrafficKey } from "./traffic.ts";
import { eventually, pause } from "./world.ts";

const library = ["x86_64", "aarch64"]
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`)
  .find((path) => existsSync(path));
const skip = () => (library === undefined ? "needs Debian's package libfaketime, and it is not installed" : undefined);
const fakeTime = { LD_PRELOAD: library ?? "", FAKETIME_DONT_FAKE_MONOTONIC: "1", DONT_FAKE_MONOTONIC: "1" };
const hours = ["+3600", "-3600", "+0"];
const jumpFile = join(tmpdir(), `tollgate-test-${process.pid}-jump`);

export const clockRows: readonly Row[] = [
  {
    name: "24",
    fault: "the clock of one pod an hour ahead, of another an hour behind",
    promise:
      "nobody notices: limits by Redis's clock, periods by the KeyService's, leases by monotonic clocks, keys expire on time",
    skip,
    // Enough time for Redis on a busy machine: here it alone is to decide.
    world: {
      sidecarEnv: (index) => ({ ...fakeTime, FAKETIME: hours[index] ?? "+0", TOLLGATE_REDIS_TIMEOUT_MS: "2000" }),
    },
    run: skewedPods,
  },
  {
    name: "25",
    fault: "the KeyService's clock jumps a day ahead, back, and ahead again",
    promise: "each budget period is spent at most once: no second reset by going back",
    skip,
    world: {
      keyServiceEnv: { ...fakeTime, FAKETIME_TIMESTAMP_FILE: jumpFile, FAKETIME_NO_CACHE: "1" },
      leaseTtlS: 6,
    },
    run: jumpingKeyService,
  },
];

async function skewedPods(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const soon = await scene.key("soon", { duration: "30m", max_budget: 1 });
  const statuses: number[] = [];
  const incident = await scene.incident({
    inject: async () => {
      for (const pod of world.pods) statuses.push((await call(pod, soon)).status);
    },
    heal: () => {},
  });
  const { outcomes, keys } = incident;
  onlyStatuses(outcomes, 200, 429);
  const served = busiestMinute(outcomes, keys.limited.name);
  assert.equal(served, limitedRpm, `${served} calls in a minute with a limit of ${limitedRpm}`);
  const skewed = await world.query<{ pod_id: string }>(
    "SELECT DISTINCT pod_id FROM spend_log WHERE abs(extract(epoch FROM booked_at - started_at)) > 3000",
  );
  assert.equal(skewed.length, 2, "the clocks were not set wrong");
  assert.deepEqual(statuses, [200, 200, 200], "a key that ends in 30 minutes is not served alike by all pods");
  return [...incident.facts, `key with ${limitedRpm} requests a minute: exactly ${served} served in the busiest`];
}

async function jumpingKeyService(scene: Scene): Promise<string[]> {
  const { world } = scene;
  const maxUsd = 0.002;
  const max = BigInt(Math.round(maxUsd * 1e9));
  const daily = await scene.key("daily", { max_budget: maxUsd, budget_duration: "1d" });
  const spentAfter: bigint[] = [];
  for (const jump of ["+0", "+86400", "+0", "+86400", "+0"]) {
    writeFileSync(jumpFile, jump);
    await pause(1500);
    await useUp(scene, daily);
    await quiesce(world, [daily]);
    spentAfter.push((await accountOf(world, daily.keyId)).spent);
  }
  const [first = 0n, second = 0n, ...later] = spentAfter;
  const periods = await world.query<{ spent_nanos: bigint }>(
    "SELECT spent_nanos FROM budget_periods JOIN budgets USING (budget_id) WHERE scope_id = $1",
    [daily.keyId],
  );
  assert.equal(periods.length, 2, "there should be two periods");
  for (const { spent_nanos } of periods) assert.ok(spent_nanos <= max, `${spent_nanos} in one period of ${max}`);
  assert.ok(first > max / 2n, `only ${first} was spent in the first period`);
  assert.ok(second > first, "the next day's period was not used");
  // What one call reserves may have been left over and be spent later; a second reset would be far more.
  for (const spent of later) assert.ok(spent - second <= max / 4n, `${spent - second} was spent after going back`);
  const result = await audit(world, daily);
  assert.deepEqual(result.faults, []);
  return [
    ...moneyFacts([result]),
    `budget ${usd(max)} a day; spent after each jump: ${spentAfter.map(usd).join(", ")}; ${periods.length} periods`,
  ];
}

/** Calls until the budget refuses, at all pods. */
async function useUp({ world }: Scene, key: TrafficKey): Promise<void> {
  const callsMax = Number((2_000_000n * 3n) / answerNanos);
  for (const pod of world.pods) {
    let calls = 0;
    await eventually("the budget refuses", async () => {
      for (; calls < callsMax; calls++) {
        const { status, code } = await call(pod, key);
        if (code === "budget_exceeded") return true;
        assert.equal(status, 200, code);
      }
      throw new Error("the budget never refuses");
    });
  }
}
