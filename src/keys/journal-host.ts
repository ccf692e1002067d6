import {
  appendFileSync,
  closeSync,
  fdatasync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { isAlive, type JournalOwner, thisProcess } from "./journal-owner.ts";

/** A file open for appending. Its methods throw the system's error. */
export interface JournalFile {
  /** Appends from `offset` on. @returns how many bytes were taken, perhaps not all. */
  write(bytes: Buffer, offset: number): number;
  /** Cuts off what is beyond `size`. */
  truncate(size: number): void;
  /** Makes what was written survive the machine. */
  sync(): void;
  /** Likewise, without waiting. */
  syncSoon(done: (error: Error | null) => void): void;
  close(): void;
}

/** What a journal needs of its machine: a disk, and who is alive there. Methods throw the system's error. */
export interface JournalHost {
  makeDirectory(path: string): void;
  list(directory: string): readonly string[];
  /** @returns undefined if there is no such file. */
  stat(path: string): { readonly size: number; readonly mtimeMs: number } | undefined;
  /** Makes a file that must not be there yet. */
  create(path: string): JournalFile;
  /** Fills `bytes` from `position` on. @returns how many there were. */
  read(path: string, bytes: Buffer, position: number): number;
  /** Adds to a file, which is made if missing. */
  append(path: string, bytes: Buffer): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** Makes what was written to a file, or the names in a directory, survive the machine. */
  sync(path: string): void;
  /** The owner of a journal opened now. */
  owner(nonce: string): JournalOwner;
  isAlive(owner: JournalOwner): boolean;
}

class OpenFile implements JournalFile {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(bytes: Buffer, offset: number): number {
    return writeSync(this.#fd, bytes, offset);
  }

  truncate(size: number): void {
    ftruncateSync(this.#fd, size);
  }

  sync(): void {
    fdatasyncSync(this.#fd);
  }

  syncSoon(done: (error: Error | null) => void): void {
    fdatasync(this.#fd, done);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** The machine this process runs on. */
export const thisMachine: JournalHost = {
  makeDirectory: (path) => void mkdirSync(path, { recursive: true, mode: 0o700 }),
  list: (directory) => readdirSync(directory),
  stat: (path) => statSync(path, { throwIfNoEntry: false }),
  create: (path) => new OpenFile(openSync(path, "ax", 0o600)),
  read: (path, bytes, position) => withOpen(path, (fd) => readFully(fd, bytes, position)),
  append: (path, bytes) => appendFileSync(path, bytes, { mode: 0o600 }),
  rename: renameSync,
  remove: unlinkSync,
  sync: (path) => withOpen(path, fsyncSync),
  owner: thisProcess,
  isAlive,
};

function withOpen<Result>(path: string, work: (fd: number) => Result): Result {
  const fd = openSync(path, "r");
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}

function readFully(fd: number, bytes: Buffer, position: number): number {
  let filled = 0;
  while (filled < bytes.length) {
    const count = readSync(fd, bytes, filled, bytes.length - filled, position + filled);
    if (count === 0) break;
    filled += count;
  }
  return filled;
}
