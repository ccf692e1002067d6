import type { JsonObject } from "../completion.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { openCredentials } from "./credentials.ts";
import { openParams } from "./model-records.ts";
import { entryOf, modelRows } from "./models.ts";
import type { Postgres } from "./postgres.ts";
import type { Vault } from "./vault.ts";

/** Everything a pod has to know of the database's models, secrets in the clear. */
export interface ModelsForPods {
  /** The books' version it was read at. */
  readonly version: bigint;
  readonly models: readonly { readonly id: string; readonly entry: JsonObject }[];
  readonly credentials: readonly { readonly name: string; readonly values: JsonObject }[];
  /** What is left out because no key opens it. */
  readonly unreadableModelIds: readonly string[];
  readonly unreadableCredentialNames: readonly string[];
}

/** What a StoredModelsReader is made of. */
export interface StoredModelsParts {
  readonly postgres: Postgres;
  readonly vault: Vault;
  /** Whether models may be kept in the database: else none is served. */
  readonly storesModels: boolean;
  readonly log: Telemetry["log"];
}

/** Reads the database's models for pods. When all of them ask at once, one reading serves many. */
export class StoredModelsReader {
  readonly #parts: StoredModelsParts;
  #reading: Promise<ModelsForPods> | undefined;

  constructor(parts: StoredModelsParts) {
    this.#parts = parts;
  }

  /** May be as old as a reading that was under way: its version tells. */
  read(): Promise<ModelsForPods> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<ModelsForPods> {
    const { postgres, vault, storesModels, log } = this.#parts;
    const unreadable = { model: [] as string[], credential: [] as string[] };
    const leaveOut = (what: keyof typeof unreadable) => (name: string, error: unknown) => {
      unreadable[what].push(name);
      log("error", `A ${what} of the database is left out: its secrets cannot be read.`, { name, error });
    };
    return postgres.transaction(async (client) => {
      // First: what is read after it is as new as that, or newer.
      const [row] = await client.query<{ version: bigint }>("SELECT version FROM revision");
      const onUnreadable = leaveOut("model");
      const models = (storesModels ? await modelRows(client) : []).flatMap((model) => {
        const { model_id: id, model_name: name, info } = model;
        try {
          return [{ id, entry: entryOf(id, { name, info, params: openParams(model, vault) }) }];
        } catch (error) {
          onUnreadable(id, error);
          return [];
        }
      });
      const credentials = await openCredentials(client, vault, leaveOut("credential"));
      return {
        ...{ version: row?.version ?? 0n, models, credentials },
        unreadableModelIds: unreadable.model,
        unreadableCredentialNames: unreadable.credential,
      };
    });
  }
}
