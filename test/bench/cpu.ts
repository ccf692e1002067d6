import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const nsPerMs = 1_000_000;

/** CPU time that a process's threads have used, in milliseconds: by the scheduler's own count, since the system's is of 10 ms each. */
export function cpuMs(pid: number): number {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]);
    } catch {
      // It has ended since it was listed.
    }
  }
  return ns / nsPerMs;
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

/** Has a process, and those it will start, run only while nobody else wants their core. */
export function yieldAlways(pid: number): void {
  const done = spawnSync("chrt", ["--idle", "--all-tasks", "--pid", "0", String(pid)]);
  if (done.status !== 0) throw new Error("chrt is needed to have processes give way (util-linux)");
}
