import type { Lent } from "./credentials.ts";
import { isTree } from "./document.ts";
import { pathText } from "./remarks.ts";
import { defaultParams } from "./schema.ts";

/**
 * Puts `router_settings.default_litellm_params` into the parameters of deployments that do not say them themselves. Deployments
 * keep their ids. Of wrong defaults nothing is lent: they are told of where they stand, not at each deployment.
 */
export function lendDefaults({ tree, unset }: Lent): Lent {
  const router = tree.router_settings;
  const defaults = isTree(router) ? router.default_litellm_params : undefined;
  if (!isTree(defaults) || !Array.isArray(tree.model_list) || !defaultParams.safeParse(defaults).success) {
    return { tree, unset };
  }
  const missing = [...unset.values()].filter(({ path }) => path[1] === "default_litellm_params");
  const lentUnset = new Map(unset);
  const complete = (entry: unknown, place: number): unknown => {
    if (!isTree(entry) || !isTree(entry.litellm_params)) return entry;
    const params = entry.litellm_params;
    for (const { path, name } of missing) {
      const key = path[2];
      if (key === undefined || Object.hasOwn(params, key)) continue;
      const lent = ["model_list", place, "litellm_params", key];
      lentUnset.set(pathText(lent), { path: lent, name });
    }
    return { ...entry, litellm_params: { ...defaults, ...params } };
  };
  return { tree: { ...tree, model_list: tree.model_list.map(complete) }, unset: lentUnset };
}
