/** What a sidecar does when there is nothing to do: a guard that counts. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Stack } from "./stack.ts";

const [settleMs, countedMs] = [3_000, 4_000];
/** 14 a second were seen, and 110 when the event loop's lag was measured every 10 ms and the log flushed whether it had lines or not. */
const wakeUpsPerSecondMax = 40;

test("a sidecar without calls hardly ever wakes, and tells that its event loop lags by nothing", async () => {
  const stack = await Stack.start({ sidecars: 1 });
  try {
    const [sidecar] = stack.sidecars;
    const pid = sidecar?.process.pid ?? 0;
    await sleep(settleMs);
    const before = wakeUpsOf(pid);
    await sleep(countedMs);
    const perSecond = ((wakeUpsOf(pid) - before) * 1_000) / countedMs;
    assert.ok(perSecond <= wakeUpsPerSecondMax, `it woke ${perSecond} times a second`);
    const metrics = await (await fetch(`${sidecar?.adminUrl}/metrics`)).text();
    const lagS = Number(/^nodejs_eventloop_lag_p50_seconds(?:\{.*\})? (\S+)$/m.exec(metrics)?.[1]);
    assert.ok(lagS < 0.05, `its event loop lags by ${lagS} s`);
  } finally {
    await stack.close();
  }
});

/** How often its main thread has gone to sleep. */
function wakeUpsOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/task/${pid}/status`, "latin1");
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
}
