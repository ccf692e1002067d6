import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Cluster, Redis } from "ioredis";
import type { Clock, Random } from "../clock.ts";
import type { RedisAddress } from "../config/config.ts";
import { CountersUnavailable } from "./counters.ts";

/** A program that runs inside Redis. */
export interface Script {
  readonly lua: string;
  readonly sha: string;
  /** It gives back: it is sent also while Redis seems to be away, but not waited for. */
  readonly isOwed: boolean;
}

/** A script and what it is to work on. */
export interface ScriptCall {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
}

/** Reads a script that lies beside this file; in several pieces if it shares some with others. */
export function loadScript(files: string | readonly string[], isOwed = false): Script {
  const lua = [files]
    .flat()
    .map((file) => readFileSync(new URL(file, import.meta.url), "utf8"))
    .join("\n");
  return { lua, sha: createHash("sha1").update(lua).digest("hex"), isOwed };
}

/** What a connection is made of. */
export interface ConnectionParts {
  readonly address: RedisAddress;
  /** The address is a node of a Redis Cluster. */
  readonly isCluster: boolean;
  /** What it means when it does not answer, for the log. */
  readonly consequence: string;
  /** How long an answer may take. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly random: Random;
  /** Told when Redis goes away and when it is back. */
  readonly telemetry: { log(level: "info" | "warn", message: string, facts?: Readonly<Record<string, unknown>>): void };
}

/** After so many failures in a row Redis is not asked any more, until a probe finds it well. */
const failuresMax = 3;
const probeEveryMs = 200;
const connectTimeoutMs = 1000;
const reconnectDelayMaxMs = 500;
/** A connection that owes an answer for so long is dead. Answers that come earlier, but too late, are still made good. */
const silenceMaxMs = 3000;

/**
 * A connection to Redis that answers in time or fails in time, and comes back by itself. Nothing is queued while it is away,
 * and nothing is sent twice: a request whose answer was lost may or may not have been carried out.
 */
export class Connection {
  readonly #parts: ConnectionParts;
  readonly #client: Redis | Cluster;
  /** The first attempt to connect, while it lasts. */
  #opening: Promise<unknown> | undefined;
  #failuresInRow = 0;
  #lastFailure: Error | undefined;
  #isDown = false;
  #isClosed = false;
  #cancelProbe: (() => void) | undefined;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#client = clientFor(parts);
    // Without a listener ioredis prints each failed attempt to reconnect.
    this.#client.on("error", (error: unknown) => {
      this.#lastFailure = plain(error);
    });
    const opened = () => {
      this.#opening = undefined;
    };
    this.#opening = this.#client.connect().then(opened, opened);
  }

  /** Whether there is a connection, and Redis has answered on it lately. */
  get isUp(): boolean {
    return !this.#isDown && this.#client.status === "ready";
  }

  /**
   * Runs a script.
   *
   * @param late is given the answer when it comes after the promise was rejected.
   * @throws CountersUnavailable after `timeoutMs` at the latest, and at once while Redis is known to be away.
   */
  async run(call: ScriptCall, late: (reply: unknown) => void): Promise<unknown> {
    if (this.#isDown) {
      if (call.script.isOwed) this.#evaluate(call).catch(() => {});
      throw new CountersUnavailable(this.#lastFailure);
    }
    return this.#guarded(this.#evaluate(call), late);
  }

  /**
   * Carries out one command. Texts in the reply are Buffers.
   *
   * @throws CountersUnavailable as `run` does.
   */
  async command(name: string, ...args: readonly (string | number | Buffer)[]): Promise<unknown> {
    if (this.#isDown) throw new CountersUnavailable(this.#lastFailure);
    return this.#guarded(this.#send(name, args), () => {});
  }

  /** Whether Redis can be written to now. Something is written, since a replica answers a mere PING too. */
  async ping(): Promise<boolean> {
    try {
      await this.#inTime(this.#write(), () => {});
      return true;
    } catch {
      return false;
    }
  }

  /** Waits, in time, for what was sent before, and closes. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelProbe?.();
    await this.#inTime(this.#client.quit(), () => {}).catch(() => {});
    this.#client.disconnect();
  }

  async #guarded(answer: Promise<unknown>, late: (reply: unknown) => void): Promise<unknown> {
    try {
      const reply = await this.#inTime(answer, late);
      this.#failuresInRow = 0;
      return reply;
    } catch (thrown) {
      throw new CountersUnavailable(this.#failed(thrown));
    }
  }

  async #send(name: string, args: readonly (string | number | Buffer)[]): Promise<unknown> {
    if (this.#opening !== undefined) await this.#opening;
    return this.#client.callBuffer(name, ...args);
  }

  async #write(): Promise<unknown> {
    if (this.#opening !== undefined) await this.#opening;
    return this.#client.set("tollgate:ping", 1, "PX", 1000);
  }

  async #evaluate({ script, keys, args }: ScriptCall): Promise<unknown> {
    if (this.#opening !== undefined) await this.#opening;
    try {
      return await this.#client.evalsha(script.sha, keys.length, ...keys, ...args);
    } catch (thrown) {
      if (!(thrown instanceof Error && thrown.message.startsWith("NOSCRIPT"))) throw thrown;
      return this.#client.eval(script.lua, keys.length, ...keys, ...args);
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
          if (isOver) return late(result);
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

  #failed(thrown: unknown): Error {
    const failure = plain(thrown);
    this.#lastFailure = failure;
    this.#failuresInRow += 1;
    if (this.#failuresInRow >= failuresMax && !this.#isDown && !this.#isClosed) {
      this.#isDown = true;
      this.#parts.telemetry.log("warn", `Redis does not answer; ${this.#parts.consequence}.`, {
        reason: failure.message,
      });
      this.#probeLater();
    }
    return failure;
  }

  #probeLater(): void {
    const { clock, random } = this.#parts;
    this.#cancelProbe = clock.after(probeEveryMs * (0.75 + random() / 2), () => void this.#probe());
  }

  async #probe(): Promise<void> {
    const isBack = await this.ping();
    if (this.#isClosed) return;
    if (!isBack) return this.#probeLater();
    this.#isDown = false;
    this.#failuresInRow = 0;
    this.#parts.telemetry.log("info", "Redis answers again.");
  }
}

/** Only the message: ioredis hangs the command on its errors, and the command may be the login. */
function plain(error: unknown): Error {
  return new Error(error instanceof Error ? error.message : String(error));
}

function clientFor({ address, isCluster, random }: ConnectionParts): Redis | Cluster {
  const retryDelayMs = (attempt: number) =>
    Math.min(25 * 2 ** Math.min(attempt, 10), reconnectDelayMaxMs) * (0.5 + random() / 2);
  const common = {
    lazyConnect: true,
    enableOfflineQueue: false,
  };
  const options = {
    db: address.db,
    username: address.username,
    password: address.password?.reveal(),
    connectTimeout: connectTimeoutMs,
    socketTimeout: silenceMaxMs,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // After a failover the old master is a replica: look for the new one.
    reconnectOnError: (error: Error) => error.message.includes("READONLY"),
  };
  const { host, port } = address;
  if (!isCluster) return new Redis({ ...common, ...options, host, port, retryStrategy: retryDelayMs });
  return new Cluster([{ host, port }], { ...common, clusterRetryStrategy: retryDelayMs, redisOptions: options });
}
