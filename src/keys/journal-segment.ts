import type { JournalFile, JournalHost } from "./journal-host.ts";

/** One file of the journal. */
export class JournalSegment {
  readonly path: string;
  /** Bytes of whole lines. */
  size: number;
  /** Records in it that the KeyService has not confirmed. */
  unacked = 0;
  readonly #host: JournalHost;
  /** Open for appending; undefined once sealed. */
  #file: JournalFile | undefined;
  #syncs = 0;

  private constructor(host: JournalHost, path: string, size: number, file: JournalFile | undefined) {
    this.#host = host;
    this.path = path;
    this.size = size;
    this.#file = file;
  }

  /** @throws the system's error. */
  static create(host: JournalHost, path: string): JournalSegment {
    return new JournalSegment(host, path, 0, host.create(path));
  }

  /** A segment somebody else has written. */
  static sealed(host: JournalHost, path: string, size: number): JournalSegment {
    return new JournalSegment(host, path, size, undefined);
  }

  get isSealed(): boolean {
    return this.#file === undefined;
  }

  /**
   * Writes whole lines, or nothing: what was written of a line that does not fit is cut off again.
   *
   * @param sync whether to wait until they would survive the machine.
   * @returns where they begin.
   * @throws the system's error.
   */
  append(lines: Buffer, sync: boolean): number {
    const file = this.#file;
    if (file === undefined) throw new Error("The segment is sealed.");
    try {
      for (let written = 0; written < lines.length; ) written += file.write(lines, written);
      if (sync) file.sync();
    } catch (error) {
      this.#cutOff(file);
      throw error;
    }
    const start = this.size;
    this.size += lines.length;
    return start;
  }

  /** If even that fails, the torn line stays at the end of a file nothing more is written to, and its checksum tells. */
  #cutOff(file: JournalFile): void {
    try {
      file.truncate(this.size);
    } catch {
      this.#release(file);
    }
  }

  /** @returns the bytes from `start` on, `length` at most. */
  read(start: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, this.size - start)));
    return bytes.subarray(0, this.#host.read(this.path, bytes, start));
  }

  /** Makes what was written survive the machine, without waiting. */
  syncSoon(done: (error: Error | null) => void): void {
    const file = this.#file;
    if (file === undefined) {
      done(null);
      return;
    }
    this.#syncs++;
    file.syncSoon((error) => {
      this.#syncs--;
      if (this.#syncs === 0 && this.#file !== file) file.close();
      done(error);
    });
  }

  /** Nothing more is appended. */
  seal(): void {
    if (this.#file !== undefined) this.#release(this.#file);
  }

  /** A file under a running sync is closed after it. */
  #release(file: JournalFile): void {
    this.#file = undefined;
    if (this.#syncs === 0) file.close();
  }

  remove(): void {
    this.seal();
    this.#host.remove(this.path);
  }
}
