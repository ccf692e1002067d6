/**
 * `npm run test:scale`: fills the books of a real PostgreSQL (which waits for its disk) and says how long questions take, and what
 * booking costs beside plain INSERTs.
 *
 *   --keys 100000 --rows 1000000
 *
 * With `--sidecars` it runs one KeyService with so many simulated sidecars instead, in rising steps, and says what they ask of it:
 *
 *   --sidecars 2000 --calls 0.1 (a second, of each) --keys 200
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startEmbeddedPostgres } from "../../sidecar/embedded-postgres.ts";
import { measureRedis } from "./redis-cost.ts";
import { measureScale } from "./scale.ts";
import { measureSidecars, type SidecarsStep } from "./sidecars.ts";

const { values } = parseArgs({
  options: {
    ...{ keys: { type: "string" }, rows: { type: "string", default: "1000000" } },
    ...{ sidecars: { type: "string" }, calls: { type: "string", default: "0.1" } },
  },
});
const say = (line: string) => process.stdout.write(`${line}\n`);
const dataDir = mkdtempSync(join(tmpdir(), "tollgate-scale-"));
const parameters = { shared_buffers: "1GB", max_wal_size: "4GB", max_connections: "100" };
const server = await startEmbeddedPostgres({ dataDir, log: () => {}, parameters });
try {
  if (values.sidecars === undefined) await measureBooks();
  else await measureFleet(Number(values.sidecars));
} finally {
  await server.stop();
  rmSync(dataDir, { recursive: true, force: true });
}

async function measureBooks(): Promise<void> {
  const result = await measureScale(server.url, {
    ...{ keyCount: Number(values.keys ?? "100000"), rowCount: Number(values.rows), say },
    ...{ resolveCount: 20_000, reportCount: 50, batchCount: 80 },
  });
  const ms = (value: number) => `${value.toFixed(1)} ms`;
  say(
    `\n${result.rowCount} rows; the log and the sums by day ${result.logged === result.summed ? "are equal" : "DIFFER"}`,
  );
  for (const [name, { p50Ms, p99Ms }] of Object.entries(result.resolve))
    say(`ResolveKey, ${name}: p50 ${ms(p50Ms)}, p99 ${ms(p99Ms)}`);
  for (const { path, p50Ms, p99Ms, bytes } of result.reports)
    say(`${path}: p50 ${ms(p50Ms)}, p99 ${ms(p99Ms)}, ${bytes} bytes`);
  for (const { spread, batchSize, settledPerSecond, insertedPerSecond } of result.settle) {
    const ratio = (settledPerSecond / insertedPerSecond).toFixed(2);
    say(
      `${spread}, batches of ${batchSize}: ${settledPerSecond.toFixed(0)} rows/s settled, ${insertedPerSecond.toFixed(0)} plainly inserted, ratio ${ratio}`,
    );
  }
  if (result.logged !== result.summed) process.exitCode = 1;
}

async function measureFleet(most: number): Promise<void> {
  const result = await measureSidecars(server.url.reveal(), {
    ...{ counts: [...[10, 100, 500].filter((count) => count < most), most], callsPerSecond: Number(values.calls) },
    ...{ keyCount: Number(values.keys ?? "200"), warmUpMs: 15_000, measureMs: 30_000 },
    ...{ postgresPid: server.pid, onStep: sayStep },
  });
  const { callUs, beatUs } = await measureRedis(1_000, [100, 2_000, 100_000]);
  say(`\nRedis: a call's two scripts ${callUs.toFixed(0)} us`);
  for (const { pods, us } of beatUs) say(`  a beat among ${pods} pods ${us.toFixed(0)} us`);
  const { settled, refused, failed, cost, logged, spent, reserved } = result;
  const isExact = cost === logged && cost === spent && reserved === 0n;
  say(
    `\n${settled} calls, ${refused} refused, ${failed} failed; the books ${isExact ? "have what they cost" : "DIFFER"}`,
  );
  if (isExact) return;
  say(`cost ${cost}, in the log ${logged}, spent ${spent}, lent ${reserved} nano-dollars`);
  process.exitCode = 1;
}

function sayStep(step: SidecarsStep): void {
  const { half, last } = step.changeHeardMs;
  say(
    `\n${step.sidecars} sidecars: KeyService ${step.keyServiceCores.toFixed(3)} cores, ${step.keyServiceMb.toFixed(0)} MB; PostgreSQL ` +
      `${step.postgresCores?.toFixed(3)} cores, ${step.transactions.toFixed(0)} transactions/s, ${step.rowsWritten.toFixed(0)} rows/s, ` +
      `${step.walKb.toFixed(0)} KB/s of WAL; a change was heard by half after ${half} ms, by all after ${last} ms`,
  );
  for (const [name, { rate, p50Ms, p99Ms, failures }] of Object.entries(step.rpcs))
    say(`  ${name}: ${rate.toFixed(1)}/s, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, ${failures} failed`);
}
