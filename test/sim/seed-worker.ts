/** Runs seeds for run.ts. */
import { setImmediate } from "node:timers/promises";
import { parentPort } from "node:worker_threads";
import { type Result, Simulation } from "./simulation.ts";

parentPort?.on("message", (batch: { from: number; count: number }) => {
  void runBatch(batch).then((results) => parentPort?.postMessage(results));
});

async function runBatch({ from, count }: { from: number; count: number }): Promise<Result[]> {
  const results: Result[] = [];
  for (let seed = from; seed < from + count; seed++) {
    results.push(await new Simulation(seed).run());
    await setImmediate();
  }
  return results;
}
