import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Linux counts in these. */
const tickMs = 10;

/** CPU time a process and its threads have used, in milliseconds. */
export function cpuMs(pid: number): number {
  // The name in parentheses may hold anything.
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
}

/** Resident memory, in megabytes. */
export function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) / 1024;
}

/** Keeps a process and its threads on one core. */
export function pin(pid: number, core: number): void {
  const done = spawnSync("taskset", ["-acp", String(core), String(pid)]);
  if (done.status !== 0) throw new Error("taskset is needed to pin processes to cores (util-linux)");
}
