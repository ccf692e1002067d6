/**
 * `npm run test:faults`: breaks, one after another, everything that can break, on real processes, and holds what happens against
 * what was promised. `--seconds 60` of traffic a row (20 if absent), `--row 9` only that row (may be repeated), `--write` puts the
 * results into deploy/RELIABILITY.md, in place of those rows' earlier ones.
 */
import { parseArgs } from "node:util";
import { installRedis } from "../redis-program.ts";
import { currentCommit, type Result, report } from "./report.ts";
import { Scene } from "./row.ts";
import { rows } from "./rows.ts";
import { World } from "./world.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "20" },
    row: { type: "string", multiple: true },
    write: { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);
const wanted = rows.filter(({ name }) => values.row === undefined || values.row.includes(name));
if (!(seconds >= 3) || wanted.length === 0) {
  const names = rows.map(({ name }) => `"${name}"`).join(" ");
  process.stderr.write(`--seconds is at least 3; --row is one of ${names}\n`);
  process.exit(64);
}
installRedis();
// Before the first row: others may commit while the last ones run.
const commit = currentCommit();
const results: Result[] = [];
for (const row of wanted) {
  const startMs = performance.now();
  process.stdout.write(`${row.name}: ${row.fault} ... `);
  const reason = row.skip?.();
  let result: Result = { row, outcome: "skip", measured: [reason ?? ""] };
  if (reason === undefined) {
    try {
      const world = await World.start(row.world);
      try {
        const measured = await row.run(new Scene({ world, seconds, isQuick: false }));
        result = { row, outcome: "pass", measured };
      } finally {
        await world.close();
      }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      result = { row, outcome: "FAIL", measured: [message.slice(0, 2000)] };
    }
  }
  results.push(result);
  const tookS = ((performance.now() - startMs) / 1000).toFixed(0);
  process.stdout.write(`${result.outcome} (${tookS} s)\n${result.measured.map((fact) => `   ${fact}\n`).join("")}`);
}
if (values.write) report(results, { seconds, commit });
process.exit(results.some(({ outcome }) => outcome === "FAIL") ? 1 : 0);
