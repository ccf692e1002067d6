/** Models and credentials in the messages of tollgate.admin.v1. */

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Json, JsonObject } from "../completion.ts";
import { factsOf } from "../config/model-check.ts";
import { type Credential, CredentialSchema, type Model, ModelSchema } from "../gen/tollgate/admin/v1/models_pb.ts";
import { type CredentialChange, type CredentialNames, type CredentialRecord, credentialEtag } from "./credentials.ts";
import { invalid } from "./key-fields.ts";
import type { ModelRecord } from "./model-records.ts";
import { entryOf, type ModelChange, type ModelNames, modelEtag } from "./models.ts";

/** The fields as the messages call them. */
export const modelRpcNames: ModelNames = {
  id: "model.id",
  name: "model.model_name",
  params: "model.litellm_params",
  info: "model.model_info",
};

/** The same of credentials. */
export const credentialRpcNames: CredentialNames = {
  name: "credential.name",
  values: "credential.values",
  info: "credential.info",
};

const picoDigits = 12;

/**
 * What a message says of a model.
 *
 * @param mask the fields meant; empty: those that are set.
 * @throws GatewayError `invalid_request` for a path that names no field.
 */
export function modelChangeOf(model: Model, mask: readonly string[]): ModelChange {
  const { modelName, litellmParams: params, modelInfo: info } = model;
  const paths = mask.length > 0 ? mask : setPaths({ model_name: modelName, litellm_params: params, model_info: info });
  const change = readMask(paths, { model_name: modelName, litellm_params: params, model_info: info });
  return {
    ...(change.texts.has("model_name") ? { name: modelName } : {}),
    ...mapChange("params", change.maps.get("litellm_params")),
    ...mapChange("info", change.maps.get("model_info")),
    isWhole: change.isWhole,
  };
}

/** The same of a credential. */
export function credentialChangeOf(credential: Credential, mask: readonly string[]): CredentialChange {
  const { name, values, info } = credential;
  const paths = mask.length > 0 ? mask : setPaths({ name, values, info });
  const change = readMask(paths, { name, values, info });
  return {
    ...(change.texts.has("name") ? { name } : {}),
    ...mapChange("values", change.maps.get("values")),
    ...mapChange("info", change.maps.get("info")),
    isWhole: change.isWhole,
  };
}

/** The message of a model. */
export function modelMessageOf(model: ModelRecord, nowMs: number): Model {
  const facts = factsOf(entryOf(model.id, model), nowMs);
  const { createdAtMs, updatedAtMs } = model;
  const price = facts?.price;
  return create(ModelSchema, {
    id: model.id,
    modelName: model.name,
    litellmParams: model.params,
    modelInfo: model.info,
    stored: model.isStored,
    provider: facts?.provider ?? "",
    providerModel: facts?.model ?? "",
    etag: modelEtag(model),
    ...(price === undefined
      ? {}
      : {
          inputCostPerTokenUsd: usdOfPicos(price.inputPicos),
          outputCostPerTokenUsd: usdOfPicos(price.outputPicos),
        }),
    ...(createdAtMs === undefined ? {} : { createTime: timestampFromMs(createdAtMs) }),
    ...(updatedAtMs === undefined ? {} : { updateTime: timestampFromMs(updatedAtMs) }),
  });
}

/** The message of a credential. */
export function credentialMessageOf(credential: CredentialRecord): Credential {
  return create(CredentialSchema, {
    name: credential.name,
    values: credential.values,
    info: credential.info,
    createTime: timestampFromMs(credential.createdAtMs),
    updateTime: timestampFromMs(credential.updatedAtMs),
    etag: credentialEtag(credential),
  });
}

type Fields = Readonly<Record<string, string | JsonObject | undefined>>;

function setPaths(fields: Fields): string[] {
  return Object.entries(fields).flatMap(([name, value]) => (value === undefined || value === "" ? [] : [name]));
}

/** Either whole fields are meant or single keys of maps; in one request they would contradict each other. */
function readMask(
  paths: readonly string[],
  fields: Fields,
): {
  readonly texts: ReadonlySet<string>;
  readonly maps: ReadonlyMap<string, JsonObject>;
  readonly isWhole: boolean;
} {
  const texts = new Set<string>();
  const maps = new Map<string, JsonObject>();
  let hasWhole = false;
  let hasKeys = false;
  for (const path of paths.includes("*") ? Object.keys(fields) : paths) {
    const [name = "", ...rest] = path.split(".");
    if (!Object.hasOwn(fields, name)) throw invalid("update_mask", `must name ${Object.keys(fields).join(", ")}.`);
    const value = fields[name];
    if (typeof value === "string") texts.add(name);
    else if (rest.length === 0) {
      hasWhole = true;
      maps.set(name, value ?? {});
    } else {
      hasKeys = true;
      const key = rest.join(".");
      const item: Json = value !== undefined && Object.hasOwn(value, key) ? (value[key] ?? null) : null;
      maps.set(name, { ...maps.get(name), [key]: item });
    }
  }
  if (hasWhole && hasKeys) throw invalid("update_mask", "must name whole fields or single keys, not both.");
  return { texts, maps, isWhole: hasWhole };
}

function mapChange<Name extends string>(
  name: Name,
  value: JsonObject | undefined,
): Partial<Readonly<Record<Name, JsonObject>>> {
  return value === undefined ? {} : ({ [name]: value } as Readonly<Record<Name, JsonObject>>);
}

function usdOfPicos(picos: bigint): string {
  const digits = picos.toString().padStart(picoDigits + 1, "0");
  return `${digits.slice(0, -picoDigits)}.${digits.slice(-picoDigits)}`.replace(/\.?0+$/, "");
}
