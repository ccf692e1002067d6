import { spawn } from "node:child_process";

/** A Unix user to run a process as. */
export interface UnixUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Interrupts process `pid` (SIGINT) as soon as this process is gone, however it went: a killed parent leaves no orphan.
 *
 * A shell waits for the end of its standard input, which only this process holds open. Where there is no `/bin/sh`, nothing
 * happens: whoever starts next has to clear up anyway.
 *
 * @param user who may signal the process, when that is not the current user.
 * @returns a function that calls it off; call it when the process has ended.
 */
export function interruptWhenOrphaned(pid: number, user?: UnixUser): () => void {
  const watcher = spawn("/bin/sh", ["-c", 'read -r _; kill -s INT "$1"', "sh", String(pid)], {
    ...user,
    cwd: "/",
    env: {},
    // A group of its own: what is sent to ours (Ctrl-C, kill -- -group) must not end the watcher first.
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  watcher.on("error", () => {});
  watcher.stdin.on("error", () => {});
  watcher.unref();
  (watcher.stdin as unknown as { unref(): void }).unref();
  return () => {
    watcher.kill("SIGKILL");
  };
}
