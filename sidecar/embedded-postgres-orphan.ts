import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const pollMs = 10;

/**
 * Stops the server that a killed owner left running in a cluster, and clears the lock file of one that is gone. Only call
 * it as the cluster's owner: a server found here is nobody's.
 *
 * @throws Error when the server does not go away.
 */
export async function stopForgottenServer(cluster: string, log: (line: string) => void): Promise<void> {
  const lockFile = join(cluster, "postmaster.pid");
  const pid = pidIn(lockFile);
  if (pid === undefined) return;
  if (servesCluster(pid, cluster)) {
    log(`stopping the PostgreSQL (process ${pid}) that a killed run left behind`);
    // Fast, immediate, and by force: Postgres's own words for the first two signals.
    for (const [signal, patienceMs] of [
      ["SIGINT", 10_000],
      ["SIGQUIT", 5_000],
      ["SIGKILL", 5_000],
    ] as const) {
      send(pid, signal);
      for (let waitedMs = 0; waitedMs < patienceMs && servesCluster(pid, cluster); waitedMs += pollMs)
        await sleep(pollMs);
      if (!servesCluster(pid, cluster)) break;
    }
    if (servesCluster(pid, cluster)) throw new Error(`The PostgreSQL in ${cluster} (process ${pid}) does not stop.`);
  }
  // Postgres would take any process that has the number now, in a new container say, for its predecessor.
  rmSync(lockFile, { force: true });
}

function pidIn(lockFile: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(lockFile, "utf8"), 10);
    return pid > 0 ? pid : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** A server's working directory is its cluster. A process that has ended and is not yet buried has none. */
function servesCluster(pid: number, cluster: string): boolean {
  try {
    if (process.platform !== "linux") {
      return execFileSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" }).includes(cluster);
    }
    const [there, here] = [statSync(`/proc/${pid}/cwd`), statSync(cluster)];
    return there.ino === here.ino && there.dev === here.dev;
  } catch {
    return false;
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
