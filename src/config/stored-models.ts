/** Models and credentials that are kept in the KeyService's database, beside those of the file. */

import { createHash } from "node:crypto";
import type { Fault } from "./config.ts";
import { canonical, isTree, type Tree } from "./document.ts";
import type { Path, Place } from "./remarks.ts";
import type { Source } from "./source.ts";

/** A model of the database. */
export interface StoredModel {
  readonly id: string;
  /** As it would stand in `model_list`; its `model_info.id` is the id. */
  readonly entry: Tree;
}

/** A credential of the database. */
export interface StoredCredential {
  readonly name: string;
  /** What deployments that name it take from it, where they do not say it themselves. */
  readonly values: Tree;
}

/** All of them. */
export interface StoredModels {
  /** The oldest first. */
  readonly models: readonly StoredModel[];
  readonly credentials: readonly StoredCredential[];
}

/** All of them as the KeyService tells them. */
export interface ToldModels extends StoredModels {
  /** Ids of models whose secrets it cannot decrypt. */
  readonly unreadableModels: readonly string[];
  /** Names of credentials that it cannot decrypt. */
  readonly unreadableCredentials: readonly string[];
}

export const nothingStored: ToldModels = {
  ...{ models: [], credentials: [] },
  ...{ unreadableModels: [], unreadableCredentials: [] },
};

/** A digest of everything stored, secrets included. */
export function digestOf(stored: StoredModels): string {
  return createHash("sha256").update(canonical(stored)).digest("hex");
}

/** What the database has and the KeyService cannot read. */
export function unreadableFaults({ unreadableModels, unreadableCredentials }: ToldModels): readonly Fault[] {
  const places = [...unreadableModels.map(modelPlace), ...unreadableCredentials.map(credentialPlace)];
  return places.map((place) => ({ ...place, path: "", message: "the KeyService cannot decrypt it; its log says why" }));
}

/** A file's configuration with what is stored: models come after the file's, credentials take the place of those of the same name. */
export function withStored(source: Source, stored: StoredModels): Source {
  if (stored.models.length === 0 && stored.credentials.length === 0) return source;
  const { tree } = source;
  const models = listOf(tree.model_list);
  const credentials = listOf(tree.credential_list);
  // What is no list stays, to be told as the fault it is.
  if (models === undefined || credentials === undefined) return source;
  return {
    tree: {
      ...tree,
      model_list: [...models, ...stored.models.map(({ entry }) => entry)],
      credential_list: [
        ...credentials,
        ...stored.credentials.map(({ name, values }) => ({ credential_name: name, credential_values: values })),
      ],
    },
    digest: createHash("sha256").update(source.digest).update(digestOf(stored)).digest("hex"),
    place: (path) => placeOf(path, models.length, credentials.length, stored) ?? source.place(path),
  };
}

/** What says where a deployment is called, the place of its tokens included. */
const addressKeys = [
  "api_base",
  "base_url",
  "aws_bedrock_runtime_endpoint",
  "vertex_credentials",
  "vertex_ai_credentials",
];

/** Which entries of `model_list` have an address that stands in the database: in the model itself, or in the credential it names. */
export function storedAddresses(tree: Tree, stored: StoredModels): ReadonlySet<number> {
  const models = listOf(tree.model_list) ?? [];
  const credentials = new Map(stored.credentials.map(({ name, values }) => [name, values]));
  const isStored = (entry: unknown, index: number) => {
    const params = isTree(entry) && isTree(entry.litellm_params) ? entry.litellm_params : {};
    const own = addressKeys.filter((key) => Object.hasOwn(params, key));
    const lent = credentials.get(String(params.litellm_credential_name)) ?? {};
    const isModelStored = index >= models.length - stored.models.length;
    return (
      (isModelStored && own.length > 0) || addressKeys.some((key) => Object.hasOwn(lent, key) && !own.includes(key))
    );
  };
  return new Set(models.flatMap((entry, index) => (isStored(entry, index) ? index : [])));
}

/** @returns undefined for what is there and no list. */
function listOf(value: unknown): readonly unknown[] | undefined {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : undefined;
}

function placeOf(path: Path, models: number, credentials: number, stored: StoredModels): Place | undefined {
  const [section, index, ...rest] = path;
  if (typeof index !== "number") return undefined;
  if (section === "model_list" && index >= models) {
    return { ...modelPlace(stored.models[index - models]?.id ?? ""), within: rest };
  }
  if (section === "credential_list" && index >= credentials) {
    return { ...credentialPlace(stored.credentials[index - credentials]?.name ?? ""), within: rest };
  }
  return undefined;
}

function modelPlace(id: string): Place {
  return { file: `the database's model ${id}`, line: 0, modelId: id };
}

function credentialPlace(name: string): Place {
  return { file: `the database's credential ${name}`, line: 0 };
}
