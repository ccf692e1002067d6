import { readFileSync } from "node:fs";

/** Whose a segment of the journal is: a process, told from later ones of the same number by when it began. */
export interface JournalOwner {
  readonly pid: number;
  /** In the kernel's ticks; "0" where the kernel does not tell. */
  readonly started: string;
  /** Tells several journals of one process apart. */
  readonly nonce: string;
}

const segmentName = /^(\d+)-(\d+)-([0-9a-z]+)\.(\d+)\.log$/;

/** The owner of journals of this process. */
export function thisProcess(nonce: string): JournalOwner {
  return { pid: process.pid, started: startOf(process.pid) ?? "0", nonce };
}

/** An owner that is never alive: who takes over next may have its segments. */
export function nobody(nonce: string): JournalOwner {
  return { pid: 0, started: "0", nonce };
}

/** Whether the owner's process is still running. Processes of other PID namespaces count as dead. */
export function isAlive(owner: JournalOwner): boolean {
  if (owner.pid === 0) return false;
  const started = startOf(owner.pid);
  if (started !== undefined) return started === owner.started;
  return process.platform !== "linux" && owner.pid !== process.pid && isRunning(owner.pid);
}

/** The name of a segment's file. */
export function nameSegment(owner: JournalOwner, sequence: number): string {
  return `${owner.pid}-${owner.started}-${owner.nonce}.${sequence}.log`;
}

/** @returns undefined if the file is no segment. */
export function parseSegmentName(name: string): { owner: JournalOwner; sequence: number } | undefined {
  const match = segmentName.exec(name);
  if (match === null) return undefined;
  const [, pid = "", started = "", nonce = "", sequence = ""] = match;
  return { owner: { pid: Number(pid), started, nonce }, sequence: Number(sequence) };
}

/** When a process began; undefined if there is none, or no way to know. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field is the program's name in brackets and may hold anything; the 22nd is the start.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
