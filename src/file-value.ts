import { readFileSync } from "node:fs";
import type { Clock } from "./clock.ts";

/** So long a change may go unseen, in milliseconds. */
const lookEveryMs = 5_000;

/** What a FileValue is made of. */
export interface FileValueParts<Value> {
  readonly files: readonly string[];
  /** Makes the value of the files' contents, in their order. Throws at what it cannot be made of. */
  readonly read: (contents: readonly Buffer[]) => Value;
  readonly clock: Clock;
  /** Told when what the files hold now cannot be used, once for each such content. The value of before stays. */
  readonly onError: (error: Error) => void;
}

/**
 * A value that stands in small files and is as they are: a certificate and its key, a token, a table. Files that somebody renews, as
 * kubelet does, need no restart. They are looked at when the value is asked for, at most every few seconds, so there is nothing to
 * close.
 */
export class FileValue<Value> {
  readonly #parts: FileValueParts<Value>;
  #contents: readonly Buffer[];
  #value: Value;
  #lookedAtMs: number;
  #lastFailure = "";

  /** @throws Error if the files cannot be read or used now: that is for the start to say. */
  constructor(parts: FileValueParts<Value>) {
    this.#parts = parts;
    this.#contents = readFiles(parts.files);
    this.#value = parts.read(this.#contents);
    this.#lookedAtMs = parts.clock.monotonicMs();
  }

  /** The same object as long as the contents are the same. */
  get current(): Value {
    const nowMs = this.#parts.clock.monotonicMs();
    if (nowMs - this.#lookedAtMs >= lookEveryMs) {
      this.#lookedAtMs = nowMs;
      this.#look();
    }
    return this.#value;
  }

  #look(): void {
    try {
      const contents = readFiles(this.#parts.files);
      if (!contents.every((content, index) => this.#contents[index]?.equals(content))) {
        this.#value = this.#parts.read(contents);
        this.#contents = contents;
      }
      this.#lastFailure = "";
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      if (error.message !== this.#lastFailure) this.#parts.onError(error);
      this.#lastFailure = error.message;
    }
  }
}

function readFiles(files: readonly string[]): readonly Buffer[] {
  return files.map((file) => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw new Error(`"${file}" cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`);
    }
  });
}
