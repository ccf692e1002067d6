import type { RedisAddress } from "../config/redis-address.ts";

/** Where answers are kept, as bytes that mean nothing here. */
export interface AnswerStore {
  /** "local" or "redis", LiteLLM's words. */
  readonly type: string;
  /** Never rejects: what cannot be found in time is not there. */
  get(key: string): Promise<Buffer | undefined>;
  /** Keeps an entry for `ttlMs`, or does not: nobody waits for it. */
  put(key: string, entry: Buffer, ttlMs: number): void;
  /** @throws if the store does not answer. */
  delete(keys: readonly string[]): Promise<void>;
  /** Forgets every answer, and nothing else that may be in the same place. @throws if the store does not answer. */
  clear(): Promise<void>;
  ping(): Promise<boolean>;
  /** The same store has other passwords now. Absent: it has none. */
  renew?(address: RedisAddress): void;
  close(): Promise<void>;
}
