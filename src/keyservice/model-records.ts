/** Models as they are kept, and as they are shown. */

import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { Queryable } from "./postgres.ts";
import { maskedParams, splitParams } from "./secret-params.ts";
import type { Sealed, Vault } from "./vault.ts";

/** What an operator may say of a model. */
export interface ModelFields {
  /** The public name of the group it joins. */
  readonly name: string;
  readonly params: JsonObject;
  readonly info: JsonObject;
}

/** A model as it is shown: the secrets among its parameters are masked. */
export interface ModelRecord extends ModelFields {
  readonly id: string;
  /** Whether it is one of the database: those of the file cannot be changed here. */
  readonly isStored: boolean;
  readonly createdAtMs: number | undefined;
  readonly createdBy: string;
  readonly updatedAtMs: number | undefined;
  readonly updatedBy: string;
  readonly version: bigint;
}

/** A row of the table models. */
export interface ModelRow {
  model_id: string;
  model_name: string;
  params: JsonObject;
  secret_params: Buffer | null;
  encryption_key_id: string | null;
  info: JsonObject;
  created_at: Date;
  created_by: string;
  updated_at: Date;
  updated_by: string;
  version: bigint;
  create_request_id: string | null;
}

/** To whom the secrets of a model belong. */
export function modelOwner(modelId: string): string {
  return `model:${modelId}`;
}

/** All parameters of a model, secrets in the clear. @throws GatewayError `secrets_unreadable`. */
export function openParams(row: ModelRow, vault: Vault): JsonObject {
  const sealed = sealedOf(row);
  return sealed === undefined ? row.params : { ...row.params, ...vault.open(sealed, modelOwner(row.model_id)) };
}

/** A model as it is shown. */
export function modelRecordOf(row: ModelRow, vault: Vault): ModelRecord {
  return {
    id: row.model_id,
    name: row.model_name,
    params: shownParams(row, vault),
    info: row.info,
    isStored: true,
    createdAtMs: row.created_at.getTime(),
    createdBy: row.created_by,
    updatedAtMs: row.updated_at.getTime(),
    updatedBy: row.updated_by,
    version: row.version,
  };
}

/** Writes what a model is made of, over what is there. */
export async function writeModel(
  client: Queryable,
  id: string,
  fields: ModelFields,
  by: { readonly vault: Vault; readonly nowMs: number; readonly name: string; readonly version: bigint },
): Promise<void> {
  const { open, secret } = splitParams(fields.params);
  const sealed = Object.keys(secret).length === 0 ? undefined : by.vault.seal(secret, modelOwner(id));
  await client.query(
    `INSERT INTO models (model_id, model_name, params, secret_params, encryption_key_id, info, created_at, created_by, updated_at, updated_by, version)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $8, $9)
     ON CONFLICT (model_id) DO UPDATE SET model_name = $2, params = $3, secret_params = $4, encryption_key_id = $5, info = $6,
       updated_at = $7, updated_by = $8, version = $9`,
    [
      ...[id, fields.name, JSON.stringify(open), sealed?.bytes ?? null, sealed?.keyId ?? null],
      ...[JSON.stringify(fields.info), new Date(by.nowMs), by.name, by.version],
    ],
  );
}

function shownParams(row: ModelRow, vault: Vault): JsonObject {
  try {
    return maskedParams(openParams(row, vault));
  } catch (error) {
    return { ...row.params, unreadable: GatewayError.from(error).message };
  }
}

function sealedOf({ secret_params: bytes, encryption_key_id: keyId }: ModelRow): Sealed | undefined {
  return bytes === null || keyId === null ? undefined : { bytes, keyId };
}
