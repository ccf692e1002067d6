import type { RedisAddress } from "../config/redis-address.ts";
import { Connection, type ConnectionParts } from "../counters/connection.ts";
import type { AnswerStore } from "./answer-store.ts";

/** What keys of answers begin with in Redis; the number is the form of the entries'. */
const prefix = "tollgate:answers:1:";

/**
 * Answers in Redis, shared by all pods. It has a connection of its own, so that no limit waits behind a large answer, with the same
 * promise: an answer in time, or none.
 */
export class RedisAnswers implements AnswerStore {
  readonly type = "redis";
  readonly #connection: Connection;

  constructor(parts: Omit<ConnectionParts, "consequence">) {
    this.#connection = new Connection({ ...parts, consequence: "no answers are kept or found" });
  }

  async get(key: string): Promise<Buffer | undefined> {
    try {
      const entry = await this.#connection.command("GET", prefix + key);
      return Buffer.isBuffer(entry) ? entry : undefined;
    } catch {
      // Told by the connection, once for each outage.
      return undefined;
    }
  }

  put(key: string, entry: Buffer, ttlMs: number): void {
    this.#connection.command("SET", prefix + key, entry, "PX", Math.ceil(ttlMs)).catch(() => {});
  }

  async delete(keys: readonly string[]): Promise<void> {
    await this.#unlink(keys.map((key) => prefix + key));
  }

  async clear(): Promise<void> {
    for await (const keys of this.#connection.find(`${prefix}*`)) await this.#unlink(keys);
  }

  /** One by one: those of a Cluster are on several nodes. */
  async #unlink(keys: readonly (string | Buffer)[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#connection.command("UNLINK", key)));
  }

  renew(address: RedisAddress): void {
    this.#connection.renew(address);
  }

  ping(): Promise<boolean> {
    return this.#connection.ping();
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}
