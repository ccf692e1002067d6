import { Connection, type ConnectionParts } from "../counters/connection.ts";
import type { AnswerStore } from "./answer-store.ts";

/** What keys of answers begin with in Redis; the number is the form of the entries'. */
const prefix = "tollgate:answers:1:";
const scanCount = 1_000;

/**
 * Answers in Redis, shared by all pods. It has a connection of its own, so that no limit waits behind a large answer, with the same
 * promise: an answer in time, or none.
 */
export class RedisAnswers implements AnswerStore {
  readonly type = "redis";
  readonly #connection: Connection;

  constructor(parts: Omit<ConnectionParts, "consequence" | "isCluster">) {
    this.#connection = new Connection({ ...parts, consequence: "no answers are kept or found", isCluster: false });
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
    if (keys.length > 0) await this.#connection.command("UNLINK", ...keys.map((key) => prefix + key));
  }

  async clear(): Promise<void> {
    let cursor: string | Buffer = "0";
    do {
      const [next, found] = (await this.#connection.command(
        ...(["SCAN", cursor, "MATCH", `${prefix}*`, "COUNT", scanCount] as const),
      )) as [Buffer, Buffer[]];
      if (found.length > 0) await this.#connection.command("UNLINK", ...found);
      cursor = next;
    } while (String(cursor) !== "0");
  }

  ping(): Promise<boolean> {
    return this.#connection.ping();
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}
