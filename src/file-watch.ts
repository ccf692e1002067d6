import { hash } from "node:crypto";
import { type FSWatcher, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Clock } from "./clock.ts";

/** Writers swap several files at once, or write one in pieces: a change is looked at when it has had time to be whole. */
const settleMs = 250;
const pollMs = 5_000;

/** What a FileWatch is made of. */
export interface FileWatchParts {
  /** Asked at each look, since a file may include others. */
  readonly files: () => readonly string[];
  /** The files are not as they were at the last look. One call is over before the next begins. */
  readonly onChange: () => Promise<void> | void;
  readonly clock: Clock;
  /** Between two looks at all contents, in milliseconds. Default 5 s. */
  readonly pollMs?: number;
}

/**
 * Tells when the contents of files change.
 *
 * Kubernetes puts a new version of a mounted ConfigMap or Secret in force by renaming a symbolic link beside the files. A watch on
 * a file sees the first such swap and no other, so folders are watched; and since folders can be on file systems that tell nobody, contents
 * are compared every few seconds as well. Only what is read counts: a file that was merely touched has not changed.
 */
export class FileWatch {
  readonly #parts: FileWatchParts;
  readonly #folders = new Map<string, FSWatcher>();
  #fingerprint: string | undefined;
  #cancelPoll = () => {};
  #cancelSettle: (() => void) | undefined;
  /** Looks one after the other. */
  #looking: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(parts: FileWatchParts) {
    this.#parts = parts;
  }

  /** Takes the files as they are for known. Whoever reads them does so after this, lest a change falls between the two. */
  async start(): Promise<void> {
    this.#fingerprint = await this.#read();
    this.#poll();
  }

  /** Looks now. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look());
    return this.#looking;
  }

  /** Looks no more, and waits for a look under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelPoll();
    this.#cancelSettle?.();
    for (const watcher of this.#folders.values()) watcher.close();
    await this.#looking;
  }

  async #look(): Promise<void> {
    if (this.#isClosed) return;
    const fingerprint = await this.#read();
    if (fingerprint === this.#fingerprint) return;
    this.#fingerprint = fingerprint;
    await this.#parts.onChange();
    // What was read may have named other files.
    this.#fingerprint = await this.#read();
  }

  #poll(): void {
    this.#cancelPoll = this.#parts.clock.after(this.#parts.pollMs ?? pollMs, () => {
      void this.look().then(() => this.#isClosed || this.#poll());
    });
  }

  async #read(): Promise<string> {
    const files = this.#parts.files();
    this.#watchFolders(new Set(files.map(dirname)));
    // A file that cannot be read is a state like any other: it may be there the next time.
    const contents = await Promise.all(
      files.map((file) => readFile(file).catch((error: NodeJS.ErrnoException) => `unreadable: ${error.code}`)),
    );
    return hash("sha256", files.map((file, index) => `${file} ${hash("sha256", contents[index] ?? "")}`).join("\n"));
  }

  #watchFolders(wanted: ReadonlySet<string>): void {
    if (this.#isClosed) return;
    for (const [folder, watcher] of this.#folders) {
      if (!wanted.has(folder)) this.#forget(folder, watcher);
    }
    for (const folder of wanted) {
      if (this.#folders.has(folder)) continue;
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#settle());
        watcher.on("error", () => this.#forget(folder, watcher));
        this.#folders.set(folder, watcher);
      } catch {
        // No such folder, or no watches left: contents are compared all the same.
      }
    }
  }

  #forget(folder: string, watcher: FSWatcher): void {
    watcher.close();
    this.#folders.delete(folder);
  }

  /** Not put off by further changes: a folder that is written to without end would never be looked at. */
  #settle(): void {
    if (this.#cancelSettle !== undefined || this.#isClosed) return;
    this.#cancelSettle = this.#parts.clock.after(settleMs, () => {
      this.#cancelSettle = undefined;
      void this.look();
    });
  }
}
