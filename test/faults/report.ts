import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, platform, release, totalmem } from "node:os";
import { redisProgram } from "../redis-program.ts";
import type { Row } from "./row.ts";
import { rows } from "./rows.ts";

/** What came of a row. */
export interface Result {
  readonly row: Row;
  readonly outcome: "pass" | "FAIL" | "skip";
  readonly measured: readonly string[];
}

const file = new URL("../../deploy/RELIABILITY.md", import.meta.url);

/** Writes deploy/RELIABILITY.md. Rows that were not run now keep what is written of them there. */
export function report(results: readonly Result[], { seconds, commit }: { seconds: number; commit: string }): void {
  const lines = earlierLines();
  const when = [new Date().toISOString().slice(0, 10), `${seconds} s`, commit].join(", ");
  const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");
  for (const { row, outcome, measured } of results) {
    const cells = [row.name, row.fault, row.promise, measured.join("; "), `${outcome}, ${when}`];
    lines.set(row.name, `| ${cells.map(cell).join(" | ")} |`);
  }
  const table = rows.flatMap(({ name }) => lines.get(name) ?? []);
  const count = (outcome: Result["outcome"]) => table.filter((line) => line.includes(`| ${outcome}, `)).length;
  const [cpu] = cpus();
  writeFileSync(
    file,
    `# What Tollgate does when things break

Measured by

\`\`\`sh
npm run test:faults -- --seconds ${seconds} --write
\`\`\`

which writes this file: ${count("pass")} rows pass, ${count("FAIL")} fail, ${count("skip")} are skipped. The last column says when a row was measured, with how
much traffic, and at which commit. A few of them, shortened, run in every \`npm test\`.

Every row has its own KeyService, PostgreSQL, Redis and sidecars (three unless it says otherwise), all real processes, with a proxy on every way
between them, and a provider that keeps its own bill. Unless the row says otherwise: ${seconds} s of traffic, whole answers and streams, of four keys at every
pod: a tight budget that runs out on the way, a loose one with limits, one without either, and one with 60 requests a minute. The fault comes after a
quarter of the time and is healed after two thirds. After each row, for every key:

- the sum of the spend log equals the budget's spend, and nothing is reserved any more;
- neither the books nor the provider's bill pass the budget;
- every call on the bill is in the books once, at exactly what the provider charged; only attempts that nobody saw the end of (a crash, a caller gone)
  may be booked higher, by no more than they had reserved;
- every key with money is served again by every pod within one lease's time (20 s unless the row says otherwise).

A limit that is far away is taken of in advance, for the rest of a second (README, "Limits"). What a killed sidecar had of it counts as used until it is as old as the
window: no limit lets more through for it, and none less by more than a 64th of what was left.

Machine: ${cpus().length} × ${cpu?.model ?? "unknown"}, ${Math.round(totalmem() / 2 ** 30)} GB, ${platform()} ${release()}, Node ${process.version}, ${version(
      redisProgram().command,
    )}. Clients, provider and proxies share it with everything else, so the times are upper bounds.

| # | Fault | Promise | Measured | |
| --- | --- | --- | --- | --- |
${table.join("\n")}
`,
  );
}

/** The table's lines as they are now, by the row's name. */
function earlierLines(): Map<string, string> {
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  return new Map([...text.matchAll(/^\| (\d[^|]*) \| .*$/gm)].map(([line, name = ""]) => [name, line]));
}

/** What is measured: the commit, and whether anything but the table differs from it. */
export function currentCommit(): string {
  const git = (...args: string[]) => spawnSync("git", args, { cwd: new URL(".", file), encoding: "utf8" });
  const { status, stdout } = git("rev-parse", "--short=10", "HEAD");
  if (status !== 0) return "unknown commit";
  const isChanged = git("status", "--porcelain", "--", ":/", ":!RELIABILITY.md").stdout !== "";
  return stdout.trim() + (isChanged ? " with changes" : "");
}

function version(command: string): string {
  const { stdout } = spawnSync(command, ["--version"], { encoding: "utf8", env: redisProgram().env });
  return `Redis ${/v=([\d.]+)/.exec(stdout)?.[1] ?? "?"}`;
}
