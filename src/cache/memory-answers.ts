import type { Clock } from "../clock.ts";
import type { AnswerStore } from "./answer-store.ts";

interface Entry {
  readonly bytes: Buffer;
  /** Monotonic, milliseconds. */
  readonly expiresAtMs: number;
}

/**
 * Answers in this process, up to a number of bytes. Two generations instead of a list in the order of use: what was asked for lately
 * is in the young one, and when that has half the bytes it becomes the old one, whose rest is forgotten. So a hot key is only read.
 */
export class MemoryAnswers implements AnswerStore {
  readonly type = "local";
  readonly #clock: Clock;
  readonly #bytesMax: number;
  #young = new Map<string, Entry>();
  #old = new Map<string, Entry>();
  #youngBytes = 0;
  #oldBytes = 0;

  /** @param parts.bytesMax of all entries together. */
  constructor(parts: { readonly clock: Clock; readonly bytesMax: number }) {
    this.#clock = parts.clock;
    this.#bytesMax = parts.bytesMax;
  }

  /** Of all entries, also of those whose time is over. */
  get bytes(): number {
    return this.#youngBytes + this.#oldBytes;
  }

  async get(key: string): Promise<Buffer | undefined> {
    const entry = this.#young.get(key) ?? this.#rejuvenate(key);
    return entry !== undefined && this.#clock.monotonicMs() < entry.expiresAtMs ? entry.bytes : undefined;
  }

  put(key: string, bytes: Buffer, ttlMs: number): void {
    this.#forget(key);
    this.#add(key, { bytes, expiresAtMs: this.#clock.monotonicMs() + ttlMs });
  }

  async delete(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.#forget(key);
  }

  async clear(): Promise<void> {
    this.#young.clear();
    this.#old.clear();
    this.#youngBytes = 0;
    this.#oldBytes = 0;
  }

  async ping(): Promise<boolean> {
    return true;
  }

  close(): Promise<void> {
    return this.clear();
  }

  #rejuvenate(key: string): Entry | undefined {
    const entry = this.#old.get(key);
    if (entry === undefined) return undefined;
    this.#forget(key);
    if (this.#clock.monotonicMs() < entry.expiresAtMs) this.#add(key, entry);
    return entry;
  }

  #add(key: string, entry: Entry): void {
    const size = entry.bytes.length;
    if (size > this.#bytesMax / 2) return;
    if (this.#youngBytes + size > this.#bytesMax / 2) {
      this.#old = this.#young;
      this.#oldBytes = this.#youngBytes;
      this.#young = new Map();
      this.#youngBytes = 0;
    }
    this.#young.set(key, entry);
    this.#youngBytes += size;
  }

  #forget(key: string): void {
    const young = this.#young.get(key);
    if (young !== undefined) this.#youngBytes -= young.bytes.length;
    this.#young.delete(key);
    const old = this.#old.get(key);
    if (old !== undefined) this.#oldBytes -= old.bytes.length;
    this.#old.delete(key);
  }
}
