/**
 * `npm run test:scale`: fills the books of a real PostgreSQL (which waits for its disk) and says how long questions take, and what
 * booking costs beside plain INSERTs.
 *
 *   --keys 100000 --rows 1000000
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startEmbeddedPostgres } from "../../sidecar/embedded-postgres.ts";
import { measureScale } from "./scale.ts";

const { values } = parseArgs({
  options: { keys: { type: "string", default: "100000" }, rows: { type: "string", default: "1000000" } },
});
const say = (line: string) => process.stdout.write(`${line}\n`);
const dataDir = mkdtempSync(join(tmpdir(), "tollgate-scale-"));
const parameters = { shared_buffers: "1GB", max_wal_size: "4GB", max_connections: "100" };
const server = await startEmbeddedPostgres({ dataDir, log: () => {}, parameters });
try {
  const result = await measureScale(server.url, {
    ...{ keyCount: Number(values.keys), rowCount: Number(values.rows), say },
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
} finally {
  await server.stop();
  rmSync(dataDir, { recursive: true, force: true });
}
