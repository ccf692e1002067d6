import { isTree, type Tree } from "./document.ts";
import type { ResolvedTree, UnsetReference } from "./references.ts";
import { pathText } from "./remarks.ts";

/** A tree whose deployments have what they take from the credentials they name. */
export interface Lent {
  readonly tree: Tree;
  /** As in ResolvedTree; what a credential lacks, its deployments lack. */
  readonly unset: ResolvedTree["unset"];
}

/** Puts credentials into the parameters of the deployments that name them; of two of one name the later counts. */
export function lendCredentials({ tree, unset }: Lent): Lent {
  const named = new Map<unknown, { readonly values: Tree; readonly index: number }>();
  for (const [index, credential] of listOf(tree.credential_list).entries()) {
    if (isTree(credential) && isTree(credential.credential_values))
      named.set(credential.credential_name, { values: credential.credential_values, index });
  }
  if (named.size === 0 || !Array.isArray(tree.model_list)) return { tree, unset };
  const lentUnset = new Map(unset);
  const complete = (entry: unknown, place: number): unknown => {
    if (!isTree(entry) || !isTree(entry.litellm_params)) return entry;
    const params = entry.litellm_params;
    const credential = named.get(params.litellm_credential_name);
    if (credential === undefined) return entry;
    for (const { path, name } of unsetIn(unset, credential.index)) {
      const key = path[3];
      if (key === undefined || Object.hasOwn(params, key)) continue;
      const lent = ["model_list", place, "litellm_params", key];
      lentUnset.set(pathText(lent), { path: lent, name });
    }
    return { ...entry, litellm_params: { ...credential.values, ...params } };
  };
  return { tree: { ...tree, model_list: tree.model_list.map(complete) }, unset: lentUnset };
}

function unsetIn(unset: Lent["unset"], credential: number): UnsetReference[] {
  return [...unset.values()].filter(({ path }) => path[0] === "credential_list" && path[1] === credential);
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
