import type { Clock } from "../clock.ts";
import { type Connection, loadScript } from "./connection.ts";

const podsScript = loadScript(["./board-rows.lua", "./pods.lua"]);
/** Beside each other also in a Cluster: with a dead pod goes what it told the board. */
export const podsKey = "tollgate:{pods}";
export const boardKey = "tollgate:{pods}:board";
/** Between two signs of life at most, in milliseconds. */
const beatMs = 5_000;
/** A pod that has missed so many beats is dead. */
const beatsPerLife = 3;
/** A pod that has said nothing for so long is dead. */
export const podLifeMs = beatMs * beatsPerLife;
/** After the first sign of life, and after one that did not arrive, in milliseconds; then twice as long each time. */
const firstBeatMs = 500;
/** How long after the start somebody waits for the first answer, in milliseconds. */
const firstAnswerMs = 2_000;

/** How many pods share the counters: each says now and then that it lives, and is told how many do. */
export class LivePods {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #podId: string;
  /** The last answers, newest last. After Redis was emptied the first ones are too small, until all have beaten again. */
  readonly #heard: number[] = [];
  readonly #first: Promise<void>;
  #onFirst = () => {};
  #cancel = () => {};
  /** Pods that start together, or come back to an emptied Redis together, know each other soon. */
  #nextBeatMs = firstBeatMs;
  #isClosed = false;

  constructor(parts: { connection: Connection; clock: Clock; podId: string }) {
    this.#connection = parts.connection;
    this.#clock = parts.clock;
    this.#podId = parts.podId;
    this.#first = new Promise((resolve) => {
      this.#onFirst = resolve;
      parts.clock.after(firstAnswerMs, resolve);
    });
    void this.#beat();
  }

  /** As last heard, at least 1; undefined before Redis has ever answered. */
  get known(): number | undefined {
    return this.#heard.length === 0 ? undefined : Math.max(1, ...this.#heard);
  }

  /** The same, but right after the start it waits a moment for the first answer. */
  async count(): Promise<number | undefined> {
    if (this.#heard.length === 0) await this.#first;
    return this.known;
  }

  /** Leaves, so that the others' shares grow at once. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    await this.#say(0, () => {}).catch(() => {});
  }

  async #beat(): Promise<void> {
    // An answer that comes late is as good.
    const hear = (reply: unknown) => {
      this.#heard.push(Number(reply));
      if (this.#heard.length > beatsPerLife) this.#heard.shift();
      this.#onFirst();
    };
    try {
      hear(await this.#say(podLifeMs, hear));
    } catch {
      this.#nextBeatMs = firstBeatMs;
    }
    if (!this.#isClosed) this.#cancel = this.#clock.after(this.#nextBeatMs, () => void this.#beat());
    this.#nextBeatMs = Math.min(beatMs, 2 * this.#nextBeatMs);
  }

  #say(ttlMs: number, late: (reply: unknown) => void): Promise<unknown> {
    return this.#connection.run({ script: podsScript, keys: [podsKey, boardKey], args: [this.#podId, ttlMs] }, late);
  }
}
