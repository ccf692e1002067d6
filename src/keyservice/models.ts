/** Administration of models: what both faces come down to. */

import type { Clock } from "../clock.ts";
import type { Json, JsonObject } from "../completion.ts";
import { checkEntry } from "../config/model-check.ts";
import type { PrivateHosts } from "../config/private-hosts.ts";
import { remarkText } from "../config/remarks.ts";
import type { StoredModel } from "../config/stored-models.ts";
import { GatewayError } from "../errors.ts";
import { listAllows } from "../model-list.ts";
import { bumpRevision } from "./changes.ts";
import { openCredentials } from "./credentials.ts";
import { checkJson, checkName, refused, requireEtag } from "./key-fields.ts";
import {
  type ModelFields,
  type ModelRecord,
  type ModelRow,
  modelRecordOf,
  openParams,
  writeModel,
} from "./model-records.ts";
import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";
import { maskedParams, merged, unmasked } from "./secret-params.ts";
import type { Vault } from "./vault.ts";

/** The models of a configuration file. */
export interface FileModels {
  entries(): Promise<readonly StoredModel[]>;
}

/** What the administration of models is made of. */
export interface ModelsParts {
  /** Who does it. Whoever does not see everything sees what his key may use, and not all of its parameters. */
  readonly operator: Operator;
  readonly postgres: Database;
  readonly vault: Vault;
  readonly clock: Clock;
  /** Whether models may be kept in the database (`store_model_in_db`). */
  readonly storesModels: boolean;
  /** The private places their addresses may name. */
  readonly privateHosts: PrivateHosts;
  /** Those of this service's own file, to be listed. */
  readonly fileModels: FileModels | undefined;
}

/** What the caller's face calls the fields. */
export interface ModelNames {
  readonly id: string;
  readonly name: string;
  readonly params: string;
  readonly info: string;
}

/** A change to a model. Of maps only the keys that are sent change; null takes one away. */
export interface ModelChange extends Partial<ModelFields> {
  /** Whether `params` and `info`, where they are sent, are the whole of it. */
  readonly isWhole?: boolean;
}

/** What was made of a request, and what the configuration's rules have to remark. */
export interface Written {
  readonly model: ModelRecord;
  readonly notices: readonly string[];
}

/** A model to be made. */
export interface NewModel {
  readonly id: string;
  readonly fields: ModelFields;
  readonly names: ModelNames;
  /** A UUID; a repeated one returns the model of the first. */
  readonly requestId?: string | undefined;
}

/** Parameters that whoever may use a model may see: none that say where it is, or how it is reached. */
const publicParam = /^model$|_cost_per_|^(?:max_tokens|rpm|tpm)$/;

/** The models. A change is in force on every sidecar as soon as that has heard of it. Every method may throw `keyservice_unavailable`. */
export class Models {
  readonly #parts: ModelsParts;

  constructor(parts: ModelsParts) {
    this.#parts = parts;
  }

  /** @throws GatewayError `model_storage_off`, `invalid_request` (as a file with it would be refused), `already_exists`. */
  async create({ id, fields, names, requestId }: NewModel): Promise<Written> {
    this.#requireStorage();
    const { postgres, vault, clock, operator } = this.#parts;
    checkName(id, names.id);
    unmasked(fields.params, undefined, names.params);
    const isTaken = (await this.#fileRecords()).some((model) => model.id === id);
    return postgres.transaction(async (client) => {
      const version = await bumpRevision(client, { scope: "model", id });
      const known = await client.query<ModelRow>("SELECT * FROM models WHERE model_id = $1 OR create_request_id = $2", [
        id,
        requestId ?? null,
      ]);
      const earlier = known.find((row) => requestId !== undefined && row.create_request_id === requestId);
      if (earlier !== undefined) return { model: modelRecordOf(earlier, vault), notices: [] };
      if (isTaken || known.length > 0) {
        throw new GatewayError("already_exists", `There is a model with this \`${names.id}\` already.`, {
          param: names.id,
        });
      }
      const notices = await this.#check(client, { id, fields, names });
      await writeModel(client, id, fields, { vault, nowMs: clock.nowMs(), name: operator.name, version });
      if (requestId !== undefined) {
        await client.query("UPDATE models SET create_request_id = $2 WHERE model_id = $1", [id, requestId]);
      }
      return { model: modelRecordOf(await rowOf(client, id), vault), notices };
    });
  }

  /** One of the database or of the file. @throws GatewayError `not_found`. */
  async get(id: string): Promise<ModelRecord> {
    const [seen] = await this.#seen(await this.#records(id));
    if (seen === undefined) throw noSuchModel(id);
    return seen;
  }

  /** The file's first, then the database's, the oldest first: the order calls know them in. */
  async list(): Promise<ModelRecord[]> {
    return this.#seen(await this.#records());
  }

  async #seen(models: readonly ModelRecord[]): Promise<ModelRecord[]> {
    const { operator, postgres } = this.#parts;
    if (operator.seesAll) return [...models];
    const lists = await postgres.query<{ models: string[] }>(
      "SELECT models FROM keys WHERE key_id = $1 UNION ALL SELECT models FROM key_rules WHERE key_id = $1",
      [operator.keyId ?? ""],
    );
    return models
      .filter((model) => lists.every((list) => isListed(list.models, model)))
      .map((model) => ({
        ...model,
        params: Object.fromEntries(Object.entries(model.params).filter(([name]) => publicParam.test(name))),
      }));
  }

  /** All, or the one with an id. */
  async #records(id?: string): Promise<ModelRecord[]> {
    const { postgres, vault, storesModels } = this.#parts;
    if (id !== undefined) {
      const row = storesModels ? await findRow(postgres, id) : undefined;
      if (row !== undefined) return [modelRecordOf(row, vault)];
      return (await this.#fileRecords()).filter((model) => model.id === id);
    }
    const ofFile = await this.#fileRecords();
    return [
      ...ofFile,
      ...(storesModels ? (await modelRows(postgres)).map((row) => modelRecordOf(row, vault)) : []).filter(
        ({ id }) => !ofFile.some((other) => other.id === id),
      ),
    ];
  }

  /** @throws GatewayError `model_storage_off`, `invalid_request`, `not_found`, `conflict`, `secrets_unreadable`. */
  async update(
    id: string,
    change: ModelChange,
    by: { readonly names: ModelNames; readonly etag?: string | undefined },
  ): Promise<Written> {
    this.#requireStorage();
    await this.#requireNotOfFile(id);
    const { postgres, vault, clock, operator } = this.#parts;
    const { names } = by;
    return postgres.transaction(async (client) => {
      const version = await bumpRevision(client, { scope: "model", id });
      const row = await rowOf(client, id);
      requireEtag(by.etag, `v${row.version}`);
      const params = openParams(row, vault);
      const sent = change.params && (unmasked(change.params, params, names.params) as JsonObject);
      const { isWhole = false } = change;
      const fields = {
        name: change.name ?? row.model_name,
        params: merged(isWhole && sent !== undefined ? {} : params, sent ?? {}),
        info: merged(isWhole && change.info !== undefined ? {} : row.info, change.info ?? {}),
      };
      const notices = await this.#check(client, { id, fields, names });
      await writeModel(client, id, fields, { vault, nowMs: clock.nowMs(), name: operator.name, version });
      return { model: modelRecordOf(await rowOf(client, id), vault), notices };
    });
  }

  /** @throws GatewayError `model_storage_off`, `invalid_request` for one of the file, `not_found`. */
  async delete(id: string): Promise<void> {
    this.#requireStorage();
    await this.#requireNotOfFile(id);
    await this.#parts.postgres.transaction(async (client) => {
      await bumpRevision(client, { scope: "model", id });
      const gone = await client.query("DELETE FROM models WHERE model_id = $1 RETURNING 1", [id]);
      if (gone.length === 0) throw noSuchModel(id);
    });
  }

  /**
   * The parameters of a model that a credential can lend, in the clear.
   *
   * @throws GatewayError `not_found`, `secrets_unreadable`.
   */
  async lendable(id: string): Promise<{ name: string; values: JsonObject }> {
    const row = await findRow(this.#parts.postgres, id);
    if (row === undefined) throw noSuchModel(id);
    const all = openParams(row, this.#parts.vault);
    const values = Object.entries(all).filter(([key]) => lendableKey.test(key));
    return { name: row.model_name, values: Object.fromEntries(values) };
  }

  /** The configuration's verdict. @returns its remarks. @throws GatewayError `invalid_request` with its faults. */
  async #check(
    client: Queryable,
    { id, fields, names }: { readonly id: string; readonly fields: ModelFields; readonly names: ModelNames },
  ): Promise<readonly string[]> {
    const { vault, clock, privateHosts } = this.#parts;
    checkName(fields.name, names.name);
    checkJson(fields.params, names.params);
    checkJson(fields.info, names.info);
    const credentials = await openCredentials(client, vault, () => undefined);
    const entry = entryOf(id, fields);
    const { faults, notices } = await checkEntry({ entry, credentials, privateHosts, nowMs: clock.nowMs() });
    if (faults.length > 0) throw refused(faults, (path) => nameOf(path, names));
    return notices.map((notice) => remarkText({ ...notice, file: "model", line: 0 }));
  }

  async #fileRecords(): Promise<ModelRecord[]> {
    const entries = (await this.#parts.fileModels?.entries()) ?? [];
    return entries.map(({ id, entry }) => ({
      id,
      name: String(entry.model_name),
      params: maskedParams(mapOf(entry.litellm_params)),
      info: mapOf(entry.model_info),
      isStored: false,
      createdAtMs: undefined,
      createdBy: "",
      updatedAtMs: undefined,
      updatedBy: "",
      version: 0n,
    }));
  }

  async #requireNotOfFile(id: string): Promise<void> {
    if (!(await this.#fileRecords()).some((model) => model.id === id)) return;
    throw new GatewayError(
      "invalid_request",
      "Can't edit model. Model in config. Store model in db via `/model/new` to edit it.",
      { param: "id" },
    );
  }

  #requireStorage(): void {
    if (this.#parts.storesModels) return;
    throw new GatewayError("model_storage_off", "Set `'STORE_MODEL_IN_DB='True'` in your env to enable this feature.");
  }
}

/** What LiteLLM's credentials are made of. */
const lendableKey = /^(api_key|api_base|base_url|api_version|organization|region_name|(aws|vertex|azure|watsonx)_\w+)$/;

/** A model as it would stand in a file. */
export function entryOf(id: string, { name, params, info }: ModelFields): JsonObject {
  return { model_name: name, litellm_params: params, model_info: { ...info, id } };
}

/** All models of the database, the oldest first. */
export async function modelRows(client: Queryable): Promise<ModelRow[]> {
  return client.query<ModelRow>("SELECT * FROM models ORDER BY created_at, model_id");
}

/** Changes with every change of the model; "" for those of the file. */
export function modelEtag({ version, isStored }: ModelRecord): string {
  return isStored ? `v${version}` : "";
}

async function findRow(client: Queryable, id: string): Promise<ModelRow | undefined> {
  const [row] = await client.query<ModelRow>("SELECT * FROM models WHERE model_id = $1", [id]);
  return row;
}

async function rowOf(client: Queryable, id: string): Promise<ModelRow> {
  const row = await findRow(client, id);
  if (row === undefined) throw noSuchModel(id);
  return row;
}

function noSuchModel(id: string): GatewayError {
  return new GatewayError("not_found", `Model with id=${id.slice(0, 256)} not found in db`, { param: "id" });
}

/** A path of the configuration in the words of the caller's face. */
function nameOf(path: string, names: ModelNames): string {
  return path
    .replace(/^model_name\b/, names.name)
    .replace(/^litellm_params\b/, names.params)
    .replace(/^model_info\b/, names.info);
}

function mapOf(value: unknown): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, Json>) : {};
}

/** Whether a whitelist has a model: by its name, or by one of its access groups. */
function isListed(list: readonly string[], { name, info: { access_groups: groups } }: ModelRecord): boolean {
  return listAllows(list, [name]) || (Array.isArray(groups) && groups.some((group) => list.includes(String(group))));
}
