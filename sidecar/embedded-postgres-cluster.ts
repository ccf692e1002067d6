import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Secret } from "../src/secret.ts";
import type { UnixUser } from "./last-will.ts";

/** The database superuser's name. */
export const superuser = "tollgate";

/** Where one embedded PostgreSQL keeps its data, who serves it, and the password that opens it. */
export interface Cluster {
  readonly directory: string;
  /** Who owns the directory and runs the server; undefined: the current user. */
  readonly user: UnixUser | undefined;
  readonly password: Secret;
}

/** The cluster under `dataDir`: made if there is none, with its password in a file beside it that only its owner reads. */
export async function openCluster(dataDir: string, user: UnixUser | undefined, native: string): Promise<Cluster> {
  const directory = clusterDirectory(dataDir);
  const passwordFile = join(dataDir, "postgres-password");
  if (!existsSync(directory)) await createCluster(dataDir, user, native, passwordFile);
  return { directory, user, password: new Secret(readFileSync(passwordFile, "utf8").trim()) };
}

/** Where the cluster of `dataDir` is, whether or not it has been made. */
export function clusterDirectory(dataDir: string): string {
  return join(dataDir, "postgres");
}

/**
 * Who is to run the server: Postgres refuses to run as root. A cluster that is there goes on under its owner.
 *
 * @returns undefined when the current user can run it.
 */
export function serverUser(directory: string): UnixUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  if (existsSync(directory)) {
    const { uid, gid } = statSync(directory);
    if (uid !== 0) return { uid, gid };
  }
  const accounts = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  const account = accounts.find(([name]) => name === "postgres") ?? accounts.find(([name]) => name === "nobody");
  return { uid: Number(account?.[2] ?? 65534), gid: Number(account?.[3] ?? 65534) };
}

/** How a program of PostgreSQL is started on a directory. Close it when the program has been started. */
export interface DirectoryAccess {
  /** The argument of `-D`. */
  readonly argument: string;
  /** What the child has as descriptor 3. */
  readonly descriptor: number;
  close(): void;
}

/**
 * Opens the directory here and passes it on open: where the way there is barred to the server's user (a home directory of
 * mode 0700), the magic link of an open descriptor needs no leave to walk it.
 */
export function directoryAccess(directory: string): DirectoryAccess {
  const descriptor = openSync(directory, "r");
  return {
    argument: process.platform === "linux" ? "/proc/self/fd/3" : directory,
    descriptor,
    close: () => closeSync(descriptor),
  };
}

async function createCluster(dataDir: string, user: UnixUser | undefined, native: string, passwordFile: string) {
  // Under another name until it is whole, so that a start cut short is simply begun again.
  const draft = join(dataDir, "postgres.new");
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  rmSync(passwordFile, { force: true });
  writeFileSync(passwordFile, `${randomBytes(24).toString("base64url")}\n`, { mode: 0o600 });
  for (const path of user ? [draft, passwordFile] : []) chownSync(path, user?.uid ?? 0, user?.gid ?? 0);
  chmodSync(draft, 0o700);
  await initialise(draft, user, native, passwordFile);
  renameSync(draft, clusterDirectory(dataDir));
  const parent = openSync(dataDir, "r");
  fsyncSync(parent);
  closeSync(parent);
}

async function initialise(directory: string, user: UnixUser | undefined, native: string, passwordFile: string) {
  const access = directoryAccess(directory);
  const password = openSync(passwordFile, "r");
  try {
    const child = spawn(
      join(native, "bin", "initdb"),
      [
        ...["-D", access.argument, "-U", superuser, "--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"],
        ...["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
        `--pwfile=${process.platform === "linux" ? "/proc/self/fd/4" : passwordFile}`,
      ],
      { ...user, cwd: "/", env: {}, stdio: ["ignore", "pipe", "pipe", access.descriptor, password] },
    );
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => (output += chunk));
    const [code, signal] = (await once(child, "close")) as [number | null, string | null];
    if (code !== 0) throw new Error(`PostgreSQL's initdb failed (${signal ?? code}): ${output.trim()}`);
  } finally {
    access.close();
    closeSync(password);
  }
}
