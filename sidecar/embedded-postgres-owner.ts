import { execFileSync } from "node:child_process";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Makes this process the only owner of a data directory, by the file `owner` in it. The file names the process and when it
 * began, so that neither a killed owner nor a process number given out again blocks the next start.
 *
 * @returns a function that gives the directory up.
 * @throws Error that names the process when a live one owns the directory.
 */
export function claimDataDirectory(dataDir: string): () => void {
  const file = join(dataDir, "owner");
  const mine = `${process.pid} ${startOf(process.pid)}\n`;
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, mine, { mode: 0o600 });
  try {
    // A link appears whole or not at all: nobody reads half an owner.
    while (!linked(draft, file)) retireOwner(file, dataDir);
  } finally {
    rmSync(draft, { force: true });
  }
  return () => {
    if (contentOf(file) === mine) rmSync(file, { force: true });
  };
}

function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function retireOwner(file: string, dataDir: string): void {
  const owner = contentOf(file);
  if (owner === undefined) return;
  refuseIfAlive(owner, dataDir);
  const retired = `${file}.${process.pid}.retired`;
  try {
    renameSync(file, retired);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  try {
    // Another starter may have been faster, and then what was moved away is its claim.
    const moved = contentOf(retired);
    if (moved !== undefined && moved !== owner) {
      linked(retired, file);
      refuseIfAlive(moved, dataDir);
    }
  } finally {
    rmSync(retired, { force: true });
  }
}

function refuseIfAlive(owner: string, dataDir: string): void {
  const [pid = "", ...start] = owner.trim().split(" ");
  if (!/^\d+$/.test(pid) || startOf(Number(pid)) !== start.join(" ")) return;
  throw new Error(
    `${dataDir} is in use by process ${pid}. Stop that one first, or give this one a directory of its own with TOLLGATE_DATA_DIR.`,
  );
}

function contentOf(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** When a process began, in whatever words the system has for it; undefined when there is no such process. */
function startOf(pid: number): string | undefined {
  try {
    if (process.platform !== "linux") {
      return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim() || undefined;
    }
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, second and in brackets, may itself have spaces and brackets; the start is the twentieth field after it.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
