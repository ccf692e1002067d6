import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { Cluster, type Redis } from "ioredis";
import { type ClientSpan, clientSpan } from "../active-span.ts";
import type { Clock, Random } from "../clock.ts";
import type { RedisAddress, RedisTls } from "../config/redis-address.ts";
import type { FileValue } from "../file-value.ts";
import { type TlsMaterial, tlsMaterial } from "../tls-files.ts";
import { Breaker, type BreakerParts } from "./breaker.ts";
import { CountersUnavailable } from "./counters.ts";
import { hashSlotOf, hashTagOf } from "./hash-slot.ts";
import { redisClient } from "./redis-client.ts";

/** So many keys are looked at in one go. */
const scanCount = 1_000;

/** A program that runs inside Redis. */
export interface Script {
  readonly lua: string;
  readonly sha: string;
  /** Its file's name, for traces. */
  readonly name: string;
  /** It gives back: it is sent also while Redis seems to be away, but not waited for. */
  readonly isOwed: boolean;
}

/** A script and what it is to work on. */
export interface ScriptCall {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
  /** How many tasks share it, for traces. */
  readonly taskCount?: number;
}

/** Reads a script that lies beside this file; in several pieces if it shares some with others. */
export function loadScript(files: string | readonly string[], isOwed = false): Script {
  const lua = [files]
    .flat()
    .map((file) => readFileSync(new URL(file, import.meta.url), "utf8"))
    .join("\n");
  const name =
    [files]
      .flat()
      .at(-1)
      ?.replace(/^\.\/|\.lua$/g, "") ?? "";
  return { lua, sha: createHash("sha1").update(lua).digest("hex"), name, isOwed };
}

/** What a connection is made of. */
export interface ConnectionParts {
  readonly address: RedisAddress;
  /** What it means when it does not answer, for the log. */
  readonly consequence: string;
  /** How long an answer may take. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly random: Random;
  /** Told when Redis goes away and when it is back. */
  readonly telemetry: BreakerParts["telemetry"];
}

/**
 * A connection to Redis that answers in time or fails in time, and comes back by itself. Nothing is queued while it is away,
 * and nothing is sent twice: a request whose answer was lost may or may not have been carried out.
 */
export class Connection {
  readonly #parts: ConnectionParts;
  readonly #client: Redis | Cluster;
  #address: RedisAddress;
  /** Of each node that has been asked, by its name in the Cluster; else one. */
  readonly #breakers = new Map<string, Breaker>();
  /** The first attempt to connect, while it lasts. */
  #opening: Promise<unknown> | undefined;
  #lastFailure: Error | undefined;
  #failures = 0;
  #isClosed = false;

  /** @throws Error if the certificates cannot be read. */
  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#address = parts.address;
    const { tls } = parts.address;
    const material = tls && materialOf(tls, parts);
    this.#client = redisClient({ address: () => this.#address, material, random: parts.random });
    // Without a listener ioredis prints each failed attempt to reconnect.
    this.#client.on("error", (error: unknown) => {
      this.#lastFailure = plain(error);
    });
    const opened = () => {
      this.#opening = undefined;
    };
    this.#opening = this.#client.connect().then(opened, opened);
  }

  /** The same Redis has other passwords now: further connections show these. Certificates are read from their files by themselves. */
  renew(address: RedisAddress): void {
    this.#address = address;
  }

  /** Whether there is a connection, and Redis, or each node of the Cluster, has answered on it lately. */
  get isUp(): boolean {
    return this.#client.status === "ready" && ![...this.#breakers.values()].some(({ isOpen }) => isOpen);
  }

  /** Requests that failed or were given up after their time, since the start. Whoever was told at once that it is away made none. */
  get failures(): number {
    return this.#failures;
  }

  /**
   * Runs a script.
   *
   * @param late is given the answer when it comes after the promise was rejected.
   * @throws CountersUnavailable after `timeoutMs` at the latest, and at once while Redis is known to be away.
   */
  async run(call: ScriptCall, late: (reply: unknown) => void): Promise<unknown> {
    const breaker = this.#breakerOf(call.keys[0] ?? "");
    if (breaker.isOpen) {
      if (call.script.isOwed) this.#evaluate(call).catch(() => {});
      throw new CountersUnavailable(this.#lastFailure);
    }
    const span = clientSpan("EVALSHA", {
      ...{ "db.system.name": "redis", "db.operation.name": "EVALSHA", "db.stored_procedure.name": call.script.name },
      "db.operation.batch.size": call.taskCount ?? 1,
    });
    return this.#guarded(breaker, this.#evaluate(call), late, span);
  }

  /**
   * Carries out one command on one key. Texts in the reply are Buffers.
   *
   * @throws CountersUnavailable as `run` does.
   */
  async command(name: string, key: string | Buffer, ...args: readonly (string | number | Buffer)[]): Promise<unknown> {
    const breaker = this.#breakerOf(String(key));
    if (breaker.isOpen) throw new CountersUnavailable(this.#lastFailure);
    const span = clientSpan(name, { "db.system.name": "redis", "db.operation.name": name });
    return this.#guarded(breaker, this.#send(name, key, args), () => {}, span);
  }

  /**
   * Finds all keys that fit a pattern, on every node, some at a time. A key may be found twice.
   *
   * @throws CountersUnavailable if a node does not answer in time.
   */
  async *find(pattern: string): AsyncGenerator<readonly Buffer[], void, undefined> {
    await this.#ready();
    for (const node of this.#client instanceof Cluster ? this.#client.nodes("master") : [this.#client]) {
      let cursor = "0";
      do {
        const page = node.scanBuffer(cursor, "MATCH", pattern, "COUNT", scanCount);
        const [next, found] = await this.#inTime(page, () => {}).catch((thrown: unknown) => {
          throw new CountersUnavailable(plain(thrown));
        });
        if (found.length > 0) yield found;
        cursor = String(next);
      } while (cursor !== "0");
    }
  }

  /** Whether Redis can be written to now. Something is written, since a replica answers a mere PING too. */
  ping(): Promise<boolean> {
    return this.#write("tollgate:ping");
  }

  /** Waits, in time, for what was sent before, and closes. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const breaker of this.#breakers.values()) breaker.close();
    await this.#inTime(this.#client.quit(), () => {}).catch(() => {});
    this.#client.disconnect();
  }

  async #write(key: string): Promise<boolean> {
    const write = async () => {
      await this.#ready();
      await this.#client.set(key, 1, "PX", 1000);
    };
    try {
      await this.#inTime(write(), () => {});
      return true;
    } catch {
      return false;
    }
  }

  /** Waits for the first attempt to connect. @throws if there is no connection that something can be sent on. */
  async #ready(): Promise<void> {
    if (this.#opening !== undefined) await this.#opening;
    if (this.#client.status !== "ready") throw this.#lastFailure ?? new Error("not connected");
  }

  async #guarded(
    breaker: Breaker,
    answer: Promise<unknown>,
    late: (reply: unknown) => void,
    span: ClientSpan | undefined,
  ): Promise<unknown> {
    try {
      const reply = await this.#inTime(answer, late);
      breaker.succeeded();
      span?.end();
      return reply;
    } catch (thrown) {
      const failure = plain(thrown);
      span?.end("redis_unavailable");
      this.#lastFailure = failure;
      this.#failures += 1;
      if (!this.#isClosed) breaker.failed(failure);
      throw new CountersUnavailable(failure);
    }
  }

  async #send(name: string, key: string | Buffer, args: readonly (string | number | Buffer)[]): Promise<unknown> {
    await this.#ready();
    return this.#client.callBuffer(name, key, ...args);
  }

  /** Nodes of a Cluster fail one by one: what is on the others goes on. */
  #breakerOf(key: string): Breaker {
    const node = this.#client instanceof Cluster ? (this.#client.slots[hashSlotOf(key)]?.[0] ?? "") : "";
    const known = this.#breakers.get(node);
    if (known !== undefined) return known;
    const { clock, random, telemetry, consequence } = this.#parts;
    const pingKey = `{${hashTagOf(key)}}:ping`;
    const breaker = new Breaker({
      ...{ clock, random, telemetry, consequence, node },
      isWell: () => this.#write(pingKey),
    });
    this.#breakers.set(node, breaker);
    return breaker;
  }

  async #evaluate({ script, keys, args }: ScriptCall): Promise<unknown> {
    await this.#ready();
    try {
      return await this.#client.evalsha(script.sha, keys.length, ...keys, ...args);
    } catch (thrown) {
      if (!(thrown instanceof Error && thrown.message.startsWith("NOSCRIPT"))) throw thrown;
      return this.#client.eval(script.lua, keys.length, ...keys, ...args);
    }
  }

  /** Nobody waits any more, so nobody can be told of a fault. What the answer granted ages out or expires. */
  #hearLate<Result>(result: Result, late: (result: Result) => void): void {
    try {
      late(result);
    } catch (thrown) {
      this.#parts.telemetry.log("warn", "A late answer of Redis could not be read.", { reason: plain(thrown).message });
    }
  }

  #inTime<Result>(answer: Promise<Result>, late: (result: Result) => void): Promise<Result> {
    return new Promise((resolve, reject) => {
      let isOver = false;
      const giveUp = () => {
        if (isOver) return;
        isOver = true;
        reject(new Error(`no answer within ${this.#parts.timeoutMs} ms`));
      };
      // When this process was held up, the answer may be there and merely not be read yet: timers come before sockets.
      const cancel = this.#parts.clock.after(this.#parts.timeoutMs, () => setImmediate(giveUp));
      answer.then(
        (result) => {
          cancel();
          if (isOver) return this.#hearLate(result, late);
          isOver = true;
          resolve(result);
        },
        (error: unknown) => {
          cancel();
          isOver = true;
          reject(error);
        },
      );
    });
  }
}

function materialOf(
  { caFile, certFile, keyFile }: RedisTls,
  { clock, telemetry }: ConnectionParts,
): FileValue<TlsMaterial> {
  const onError = ({ message }: Error) => telemetry.log("warn", `Redis: ${message}; what was there before is used on.`);
  try {
    // One file may hold both.
    return tlsMaterial({ caFile, certFile, keyFile: keyFile ?? certFile }, { clock, onError });
  } catch (error) {
    throw new Error(`Redis cannot be reached: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** Only the message: ioredis hangs the command on its errors, and the command may be the login. */
function plain(error: unknown): Error {
  return new Error(error instanceof Error ? error.message : String(error));
}
