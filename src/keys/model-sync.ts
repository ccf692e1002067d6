import type { Clock, Random } from "../clock.ts";
import type { ToldModels } from "../config/stored-models.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { Backoff, pause } from "./backoff.ts";

/** The models of the KeyService's database, and the books' version they were read at. */
export interface ModelsAnswer extends ToldModels {
  readonly version: bigint;
}

/** What a ModelSync is made of. */
export interface ModelSyncParts {
  /** Rejects when the KeyService cannot be asked. */
  readonly ask: () => Promise<ModelsAnswer>;
  /** Puts them into force. */
  readonly apply: (stored: ToldModels) => Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Pick<Telemetry, "log">;
}

/** Brings the database's models to the pod: once at the start, and again whenever the KeyService says that they changed. */
export class ModelSync {
  readonly #parts: ModelSyncParts;
  readonly #backoff: Backoff;
  readonly #closing = new AbortController();
  /** Ends the pause before the next attempt. */
  #waking = new AbortController();
  /** Nothing older than this is good enough; undefined: nothing is asked for. */
  #wanted: bigint | undefined;
  #loop: Promise<void> | undefined;
  #isSettled = false;

  constructor(parts: ModelSyncParts) {
    this.#parts = parts;
    this.#backoff = new Backoff({ firstMs: 50, maxMs: 10_000, random: parts.random });
  }

  /** Whether the models have been asked for once, successfully or not: before that, which there are is not known. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** They changed, or may have, by this version of the books. */
  heard(version: bigint): void {
    this.#wanted = version;
    if (this.#closing.signal.aborted) return;
    // Who is heard can be asked.
    this.#waking.abort();
    this.#loop ??= this.#run().finally(() => {
      this.#loop = undefined;
    });
  }

  /** Stops. To cut a question under way short, close what answers it first. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  /** Runs until what is in force is as new as what was heard of. */
  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (this.#wanted !== undefined && !signal.aborted) {
      const isDone = await this.#bring(this.#wanted);
      this.#isSettled = true;
      if (isDone || signal.aborted) continue;
      this.#waking = new AbortController();
      await pause(this.#parts.clock, this.#backoff.nextMs(), AbortSignal.any([signal, this.#waking.signal]));
    }
  }

  /** @returns whether it need not be tried again. */
  async #bring(wanted: bigint): Promise<boolean> {
    const { ask, apply, telemetry } = this.#parts;
    try {
      const { version, ...stored } = await ask();
      // Of a replica of the database that lags behind, perhaps.
      if (version < wanted) return false;
      // What is heard of meanwhile is asked for anew.
      if (this.#wanted === wanted) this.#wanted = undefined;
      await apply(stored);
      this.#backoff.reset();
      return true;
    } catch (error) {
      this.#wanted ??= wanted;
      if (!this.#closing.signal.aborted) {
        telemetry.log("warn", "The database's models could not be brought up to date; that is tried again.", { error });
      }
      return false;
    }
  }
}
