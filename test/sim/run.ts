/**
 * `npm run test:sim`: runs the whole house in virtual time, once for each seed, and says which seeds break a promise.
 *
 *   --seeds 10000 --from 1   so many runs, from this seed on
 *   --seed 4711 --trace      one run again, step by step
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { type Result, Simulation } from "./simulation.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "10000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    trace: { type: "boolean", default: false },
    workers: { type: "string" },
  },
});

process.exitCode = values.seed === undefined ? await runMany() : await runOne(Number(values.seed));

async function runOne(seed: number): Promise<number> {
  const say = (line: string) => process.stdout.write(`${line}\n`);
  const result = await new Simulation(seed, values.trace ? say : undefined).run();
  say(`seed ${seed}: ${result.violation ?? "every promise held"}`);
  say(
    `${result.events} events, ${result.calls} calls (${outcomesOf(result.outcomes)}), trace ${result.traceHash.toString(16)}`,
  );
  return result.violation === undefined ? 0 : 1;
}

async function runMany(): Promise<number> {
  const from = Number(values.from);
  const end = from + Number(values.seeds);
  const startedMs = performance.now();
  const outcomes = new Map<string, number>();
  const failed: Result[] = [];
  let [events, calls, next] = [0, 0, from];
  const work = async () => {
    const worker = new Worker(new URL("./seed-worker.ts", import.meta.url));
    try {
      while (next < end) {
        const batch = { from: next, count: Math.min(50, end - next) };
        next += batch.count;
        for (const result of await ask(worker, batch)) {
          events += result.events;
          calls += result.calls;
          for (const [outcome, count] of result.outcomes) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + count);
          if (result.violation !== undefined) failed.push(result);
        }
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Number(values.workers ?? availableParallelism()) }, work));
  failed.sort((a, b) => a.seed - b.seed);
  for (const { seed, violation } of failed.slice(0, 20)) {
    process.stdout.write(`seed ${seed}: ${violation?.split("\n")[0]}\n  npm run test:sim -- --seed ${seed} --trace\n`);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  process.stdout.write(
    `${end - from} seeds, ${failed.length} failed; ${calls} calls (${outcomesOf(outcomes)}), ${events} events in ${seconds.toFixed(1)} s\n`,
  );
  return failed.length === 0 ? 0 : 1;
}

function ask(worker: Worker, batch: { from: number; count: number }): Promise<Result[]> {
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("message", (results: Result[]) => {
      worker.off("error", reject);
      resolve(results);
    });
    worker.postMessage(batch);
  });
}

function outcomesOf(outcomes: ReadonlyMap<string, number>): string {
  return [...outcomes]
    .sort(([, a], [, b]) => b - a)
    .map(([outcome, count]) => `${count} ${outcome}`)
    .join(", ");
}
