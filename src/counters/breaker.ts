import type { Clock, Random } from "../clock.ts";

/** After so many failures in a row a node is not asked any more, until a probe finds it well. */
const failuresMax = 3;
const probeEveryMs = 200;

/** What a Breaker is made of. */
export interface BreakerParts {
  readonly clock: Clock;
  readonly random: Random;
  /** Told when the node goes away and when it is back. */
  readonly telemetry: { log(level: "info" | "warn", message: string, facts?: Readonly<Record<string, unknown>>): void };
  /** What it means that it is not asked, for the log. */
  readonly consequence: string;
  /** The node's name in a Cluster; empty if there is no Cluster. */
  readonly node: string;
  /** Whether it can be written to now. */
  readonly isWell: () => Promise<boolean>;
}

/** Whether a Redis, or one node of a Cluster, is worth asking. */
export class Breaker {
  readonly #parts: BreakerParts;
  #failuresInRow = 0;
  #isOpen = false;
  #isClosed = false;
  #cancelProbe = () => {};

  constructor(parts: BreakerParts) {
    this.#parts = parts;
  }

  /** It has failed too often, and is not to be asked. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  succeeded(): void {
    this.#failuresInRow = 0;
  }

  failed(failure: Error): void {
    this.#failuresInRow += 1;
    if (this.#failuresInRow < failuresMax || this.#isOpen || this.#isClosed) return;
    this.#isOpen = true;
    this.#log("warn", `Redis does not answer; ${this.#parts.consequence}.`, { reason: failure.message });
    this.#probeLater();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelProbe();
  }

  #probeLater(): void {
    const { clock, random } = this.#parts;
    this.#cancelProbe = clock.after(probeEveryMs * (0.75 + random() / 2), () => void this.#probe());
  }

  async #probe(): Promise<void> {
    const isWell = await this.#parts.isWell();
    if (this.#isClosed) return;
    if (!isWell) return this.#probeLater();
    this.#isOpen = false;
    this.#failuresInRow = 0;
    this.#log("info", "Redis answers again.", {});
  }

  #log(level: "info" | "warn", message: string, facts: Readonly<Record<string, unknown>>): void {
    const { node, telemetry } = this.#parts;
    telemetry.log(level, message, node === "" ? facts : { ...facts, node });
  }
}
