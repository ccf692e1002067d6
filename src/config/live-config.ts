import type { Clock } from "../clock.ts";
import type { Config, Fault, Notice } from "./config.ts";
import type { ConfigReading, LoadResult } from "./load.ts";
import { digestOf, nothingStored, type StoredModels, type ToldModels, unreadableFaults } from "./stored-models.ts";

/** What became of a change: a new configuration is in force, or the one before still is. */
export type Outcome =
  | {
      readonly ok: true;
      readonly config: Config;
      /** What is said of the database's models for the first time. */
      readonly notices: readonly Notice[];
      /** Why models of the database are served as they were before, or not at all. */
      readonly heldBack: readonly Fault[];
    }
  | { readonly ok: false; readonly faults: readonly Fault[] };

/** What a LiveConfig is made of. */
export interface LiveConfigParts {
  /** The file, which has compiled. */
  readonly reading: ConfigReading;
  readonly clock: Clock;
  /** Puts a configuration into force, and the file it was compiled from. */
  readonly apply: (config: Config, reading: ConfigReading) => void;
  /** Told of every change, after it is in force or was refused. */
  readonly onChange: (outcome: Outcome) => void;
}

/**
 * Keeps the configuration in force true to the file and to the models of the database: whichever changes, both are compiled
 * together, and the whole is put into force at once. A file with a fault changes nothing. A model of the database with one
 * is served as it last was good, and holds up no other; so is what the KeyService cannot decrypt any more.
 */
export class LiveConfig {
  readonly #parts: LiveConfigParts;
  #reading: ConfigReading;
  /** What the database has, whatever became of it. */
  #stored: ToldModels = nothingStored;
  /** What of it is in force. */
  #inForce: StoredModels = nothingStored;
  #told: ReadonlySet<string> = new Set();
  #digest = digestOf(nothingStored);
  /** Changes one after the other: a slow one must not overtake a later one. */
  #changing: Promise<void> = Promise.resolve();

  constructor(parts: LiveConfigParts) {
    this.#parts = parts;
    this.#reading = parts.reading;
  }

  /** Models of the database in force. */
  get storedCount(): number {
    return this.#inForce.models.length;
  }

  /** The file was read anew, or could not be: then everything stays as it is. */
  reload(read: ConfigReading | readonly Fault[]): Promise<void> {
    return this.#queue(async () => {
      if ("compile" in read) await this.#change(read, this.#stored);
      else this.#parts.onChange({ ok: false, faults: read });
    });
  }

  /** The database has these models now. */
  store(stored: ToldModels): Promise<void> {
    return this.#queue(async () => {
      const digest = digestOf(stored);
      if (digest === this.#digest) return;
      await this.#change(this.#reading, stored);
      this.#digest = digest;
    });
  }

  #queue(change: () => Promise<void>): Promise<void> {
    const changed = this.#changing.then(change);
    this.#changing = changed.catch(() => undefined);
    return changed;
  }

  async #change(reading: ConfigReading, stored: ToldModels): Promise<void> {
    const { apply, onChange } = this.#parts;
    this.#stored = stored;
    const { result, used, heldBack } = await this.#compile(reading, this.#readable(stored));
    if (!result.ok) {
      onChange({ ok: false, faults: result.faults });
      return;
    }
    this.#reading = reading;
    this.#inForce = used;
    const { config } = result;
    const ofStored = config.notices.filter(({ modelId }) => modelId !== undefined);
    const notices = ofStored.filter((notice) => !this.#told.has(JSON.stringify(notice)));
    this.#told = new Set(ofStored.map((notice) => JSON.stringify(notice)));
    apply(config, reading);
    onChange({ ok: true, config, notices, heldBack: [...unreadableFaults(stored), ...heldBack] });
  }

  /** What the KeyService cannot decrypt is as it last was in force. */
  #readable({ models, credentials, unreadableModels, unreadableCredentials }: ToldModels): StoredModels {
    const before = this.#inForce;
    return {
      models: [...models, ...before.models.filter(({ id }) => unreadableModels.includes(id))],
      credentials: [...credentials, ...before.credentials.filter(({ name }) => unreadableCredentials.includes(name))],
    };
  }

  async #compile(
    reading: ConfigReading,
    stored: StoredModels,
  ): Promise<{ result: LoadResult; used: StoredModels; heldBack: readonly Fault[] }> {
    const nowMs = this.#parts.clock.nowMs();
    const result = await reading.compile({ stored, nowMs });
    if (result.ok) return { result, used: stored, heldBack: [] };
    const heldBack = result.faults.filter(({ modelId }) => modelId !== undefined);
    if (heldBack.length === 0) return { result, used: stored, heldBack };
    const faulty = new Set(heldBack.map(({ modelId }) => modelId));
    const before = new Map(this.#inForce.models.map((model) => [model.id, model]));
    const models = stored.models.flatMap((model) => (faulty.has(model.id) ? (before.get(model.id) ?? []) : model));
    const used = { ...stored, models };
    const again = await reading.compile({ stored: used, nowMs });
    if (again.ok || again.faults.every(({ modelId }) => modelId === undefined))
      return { result: again, used, heldBack };
    // What was good with another file or other credentials need not be good with these.
    const sound = { ...stored, models: stored.models.filter(({ id }) => !faulty.has(id)) };
    return { result: await reading.compile({ stored: sound, nowMs }), used: sound, heldBack };
  }
}
