/** Administration of credentials: parameters that models share by naming them. */

import { randomUUID } from "node:crypto";
import type { Clock } from "../clock.ts";
import type { JsonObject } from "../completion.ts";
import { checkLent } from "../config/model-check.ts";
import type { PrivateHosts } from "../config/private-hosts.ts";
import { GatewayError } from "../errors.ts";
import { bumpRevision } from "./changes.ts";
import { checkJson, checkName, invalid, refused, requireEtag } from "./key-fields.ts";
import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";
import { maskedParams, merged, unmasked } from "./secret-params.ts";
import type { Vault } from "./vault.ts";

/** A credential as it is shown: its values are masked. */
export interface CredentialRecord {
  readonly name: string;
  readonly values: JsonObject;
  readonly info: JsonObject;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly updatedAtMs: number;
  readonly updatedBy: string;
  readonly version: bigint;
}

/** A change to a credential. Of maps only the keys that are sent change; null takes one away. */
export interface CredentialChange {
  /** A new name. */
  readonly name?: string;
  readonly values?: JsonObject;
  readonly info?: JsonObject;
  /** Whether `values` and `info` are the whole of it. */
  readonly isWhole?: boolean;
}

/** What the caller's face calls the fields. */
export interface CredentialNames {
  readonly name: string;
  readonly values: string;
  readonly info: string;
}

interface CredentialRow {
  credential_name: string;
  credential_id: string;
  secret_values: Buffer;
  encryption_key_id: string;
  info: JsonObject;
  created_at: Date;
  created_by: string;
  updated_at: Date;
  updated_by: string;
  version: bigint;
  create_request_id: string | null;
}

/** What is written of one. */
interface CredentialFields {
  readonly name: string;
  readonly values: JsonObject;
  readonly info: JsonObject;
}

/** Those. A change is in force on every sidecar as soon as that has heard of it. Every method may throw `keyservice_unavailable`. */
export class Credentials {
  readonly #postgres: Database;
  readonly #vault: Vault;
  readonly #clock: Clock;
  readonly #operator: Operator;
  readonly #privateHosts: PrivateHosts;

  /** @param parts `privateHosts`: the private places that addresses in them may name. */
  constructor(parts: {
    readonly postgres: Database;
    readonly vault: Vault;
    readonly clock: Clock;
    readonly operator: Operator;
    readonly privateHosts: PrivateHosts;
  }) {
    this.#operator = parts.operator;
    this.#privateHosts = parts.privateHosts;
    this.#postgres = parts.postgres;
    this.#vault = parts.vault;
    this.#clock = parts.clock;
  }

  /**
   * Makes a credential.
   *
   * @param wish.requestId a UUID; a repeated one returns the credential of the first.
   * @throws GatewayError `invalid_request`, `already_exists`.
   */
  async create(
    wish: CredentialFields & { readonly names: CredentialNames; readonly requestId?: string | undefined },
  ): Promise<CredentialRecord> {
    const fields = await this.#checked(wish, wish.names);
    unmasked(fields.values, undefined, wish.names.values);
    return this.#postgres.transaction(async (client) => {
      const version = await bumpRevision(client, { scope: "model", id: "" });
      const known = await client.query<CredentialRow>(
        "SELECT * FROM credentials WHERE credential_name = $1 OR create_request_id = $2",
        [fields.name, wish.requestId ?? null],
      );
      const earlier = known.find(({ create_request_id: id }) => wish.requestId !== undefined && id === wish.requestId);
      if (earlier !== undefined) return this.#recordOf(earlier);
      if (known.length > 0) throw taken(wish.names);
      const id = randomUUID();
      const { keyId, bytes } = this.#vault.seal(fields.values, credentialOwner(id));
      await client.query(
        `INSERT INTO credentials (credential_name, credential_id, secret_values, encryption_key_id, info, created_at, created_by, updated_at, updated_by, version, create_request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $6, $7, $8, $9)`,
        [
          ...[
            fields.name,
            id,
            bytes,
            keyId,
            JSON.stringify(fields.info),
            new Date(this.#clock.nowMs()),
            this.#operator.name,
          ],
          ...[version, wish.requestId ?? null],
        ],
      );
      return this.#recordOf(await rowOf(client, fields.name));
    });
  }

  /** @throws GatewayError `not_found`. */
  async get(name: string): Promise<CredentialRecord> {
    return this.#recordOf(await rowOf(this.#postgres, name));
  }

  /** By name. */
  async list(): Promise<CredentialRecord[]> {
    return (await rowsOf(this.#postgres)).map((row) => this.#recordOf(row));
  }

  /** @throws GatewayError `invalid_request`, `not_found`, `already_exists`, `conflict`, `secrets_unreadable`. */
  async update(
    name: string,
    change: CredentialChange,
    by: { readonly names: CredentialNames; readonly etag?: string | undefined },
  ): Promise<CredentialRecord> {
    return this.#postgres.transaction(async (client) => {
      const version = await bumpRevision(client, { scope: "model", id: "" });
      const row = await rowOf(client, name);
      requireEtag(by.etag, credentialEtag(row));
      const current = openValues(row, this.#vault);
      const sent = change.values && (unmasked(change.values, current, by.names.values) as JsonObject);
      const { isWhole = false } = change;
      const fields = await this.#checked(
        {
          name: change.name ?? name,
          values: merged(isWhole && sent !== undefined ? {} : current, sent ?? {}),
          info: merged(isWhole && change.info !== undefined ? {} : row.info, change.info ?? {}),
        },
        by.names,
      );
      if (fields.name !== name && (await findRow(client, fields.name)) !== undefined) throw taken(by.names);
      const { keyId, bytes } = this.#vault.seal(fields.values, credentialOwner(row.credential_id));
      await client.query(
        `UPDATE credentials SET credential_name = $2, secret_values = $3, encryption_key_id = $4, info = $5,
           updated_at = $6, updated_by = $7, version = $8
         WHERE credential_name = $1`,
        [
          ...[name, fields.name, bytes, keyId, JSON.stringify(fields.info)],
          ...[new Date(this.#clock.nowMs()), this.#operator.name, version],
        ],
      );
      return this.#recordOf(await rowOf(client, fields.name));
    });
  }

  /** Models that name it are left out from then on. @throws GatewayError `not_found`. */
  async delete(name: string): Promise<void> {
    await this.#postgres.transaction(async (client) => {
      await bumpRevision(client, { scope: "model", id: "" });
      const gone = await client.query("DELETE FROM credentials WHERE credential_name = $1 RETURNING 1", [name]);
      if (gone.length === 0) throw noSuchCredential(name);
    });
  }

  async #checked({ name, values, info }: CredentialFields, names: CredentialNames): Promise<CredentialFields> {
    checkName(name, names.name);
    checkJson(values, names.values);
    checkJson(info, names.info);
    if (Object.keys(values).length === 0)
      throw invalid(names.values, 'must have a value, such as {"api_key": "sk-..."}.');
    const faults = await checkLent({ values, privateHosts: this.#privateHosts, nowMs: this.#clock.nowMs() });
    if (faults.length > 0) throw refused(faults, (path) => path.replace(/^litellm_params\b/, names.values));
    return { name, values, info };
  }

  #recordOf(row: CredentialRow): CredentialRecord {
    return {
      name: row.credential_name,
      values: shownValues(row, this.#vault),
      info: row.info,
      createdAtMs: row.created_at.getTime(),
      createdBy: row.created_by,
      updatedAtMs: row.updated_at.getTime(),
      updatedBy: row.updated_by,
      version: row.version,
    };
  }
}

/**
 * All credentials, secrets in the clear.
 *
 * @param onUnreadable told of each that does not open; it is left out.
 */
export async function openCredentials(
  client: Queryable,
  vault: Vault,
  onUnreadable: (name: string, error: unknown) => void,
): Promise<{ readonly name: string; readonly values: JsonObject }[]> {
  return (await rowsOf(client)).flatMap((row) => {
    try {
      return [{ name: row.credential_name, values: openValues(row, vault) }];
    } catch (error) {
      onUnreadable(row.credential_name, error);
      return [];
    }
  });
}

/** Changes with every change of the credential. */
export function credentialEtag({ version }: Pick<CredentialRecord, "version">): string {
  return `v${version}`;
}

/** To whom the values of a credential belong. */
export function credentialOwner(credentialId: string): string {
  return `credential:${credentialId}`;
}

function openValues(row: CredentialRow, vault: Vault): JsonObject {
  return vault.open({ keyId: row.encryption_key_id, bytes: row.secret_values }, credentialOwner(row.credential_id));
}

function shownValues(row: CredentialRow, vault: Vault): JsonObject {
  try {
    return maskedParams(openValues(row, vault));
  } catch (error) {
    return { unreadable: GatewayError.from(error).message };
  }
}

async function rowsOf(client: Queryable): Promise<CredentialRow[]> {
  return client.query<CredentialRow>("SELECT * FROM credentials ORDER BY credential_name");
}

async function findRow(client: Queryable, name: string): Promise<CredentialRow | undefined> {
  const [row] = await client.query<CredentialRow>("SELECT * FROM credentials WHERE credential_name = $1", [name]);
  return row;
}

async function rowOf(client: Queryable, name: string): Promise<CredentialRow> {
  const row = await findRow(client, name);
  if (row === undefined) throw noSuchCredential(name);
  return row;
}

function taken({ name }: CredentialNames): GatewayError {
  return new GatewayError("already_exists", `There is a credential with this \`${name}\` already.`, { param: name });
}

function noSuchCredential(name: string): GatewayError {
  return new GatewayError("not_found", `Credential not found. Got credential name: ${name.slice(0, 256)}`, {
    param: "credential_name",
  });
}
