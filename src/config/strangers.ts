import { isTree, type Tree } from "./document.ts";
import {
  cacheClientKeys,
  cacheKeys,
  credentialKeys,
  entryKeys,
  generalKeys,
  infoKeys,
  keyBoundKeys,
  keyDefaultKeys,
  paramKeys,
  routerKeys,
  type SectionKeys,
  settingKeys,
  strategyArgKeys,
  teamDefaultKeys,
  tollgateKeys,
  topKeys,
  userDefaultKeys,
} from "./known-keys.ts";
import type { Path, Remarks } from "./remarks.ts";

/** A key that has no effect, at the first place it is written. */
interface Stranger {
  readonly path: Path;
  readonly message: string;
  count: number;
}

/** Gives a notice, once for each key of a section, for keys that have no effect: unknown ones and those not served yet. */
export function noticeStrangers(tree: Tree, remarks: Remarks): void {
  const strangers = new Map<string, Stranger>();
  const visit = (keys: SectionKeys, value: unknown, path: Path): void => {
    if (!isTree(value)) return;
    for (const [key, item] of Object.entries(value)) {
      const message = messageFor(keys, key, item);
      if (message === undefined) continue;
      const known = strangers.get(`${keys.name} ${key}`);
      if (known !== undefined) known.count += 1;
      else strangers.set(`${keys.name} ${key}`, { path: [...path, key], message, count: 1 });
    }
  };
  visit(topKeys, tree, []);
  const entries = Array.isArray(tree.model_list) ? tree.model_list : [];
  for (const [index, entry] of entries.entries()) {
    visit(entryKeys, entry, ["model_list", index]);
    if (!isTree(entry)) continue;
    visit(paramKeys, entry.litellm_params, ["model_list", index, "litellm_params"]);
    visit(infoKeys, entry.model_info, ["model_list", index, "model_info"]);
  }
  const credentials = Array.isArray(tree.credential_list) ? tree.credential_list : [];
  for (const [index, credential] of credentials.entries())
    visit(credentialKeys, credential, ["credential_list", index]);
  visit(routerKeys, tree.router_settings, ["router_settings"]);
  for (const [name, keys] of [
    ["routing_strategy_args", strategyArgKeys],
    ["default_litellm_params", paramKeys],
    ["cache_kwargs", cacheClientKeys],
  ] as const) {
    if (isTree(tree.router_settings)) visit(keys, tree.router_settings[name], ["router_settings", name]);
  }
  visit(settingKeys, tree.litellm_settings, ["litellm_settings"]);
  for (const [name, keys] of [
    ["cache_params", cacheKeys],
    ["default_key_generate_params", keyDefaultKeys],
    ["upperbound_key_generate_params", keyBoundKeys],
    ["default_team_params", teamDefaultKeys],
    ["default_internal_user_params", userDefaultKeys],
  ] as const) {
    if (isTree(tree.litellm_settings)) visit(keys, tree.litellm_settings[name], ["litellm_settings", name]);
  }
  visit(generalKeys, tree.general_settings, ["general_settings"]);
  visit(tollgateKeys, tree.tollgate, ["tollgate"]);
  for (const { path, message, count } of strangers.values()) {
    remarks.notice(path, count === 1 ? message : `${message} (${count} times)`);
  }
}

function messageFor(keys: SectionKeys, key: string, value: unknown): string | undefined {
  if (keys.serves(key)) return undefined;
  if (keys.later.has(key) || keys.laterLike?.test(key) === true) {
    return isOff(value) ? undefined : "understood, but not served yet: it has no effect";
  }
  const meant = nearest(key, [...keys.served, ...keys.later]);
  if (meant !== undefined) return `unknown key: it has no effect; did you mean ${meant}?`;
  return keys.open ? undefined : "unknown key: it has no effect";
}

/** Whether leaving a key out would say the same. */
function isOff(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** The word of `words` that is at most two slips of the finger away, one for short words. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const slipsMax = word.length < 8 ? 1 : 2;
  let best: { word: string; slips: number } | undefined;
  for (const candidate of words) {
    if (Math.abs(candidate.length - word.length) > slipsMax) continue;
    const slips = distance(word.toLowerCase(), candidate.toLowerCase());
    if (slips <= slipsMax && slips < (best?.slips ?? Number.POSITIVE_INFINITY)) best = { word: candidate, slips };
  }
  return best?.word;
}

/** How many letters must be put in, left out, replaced or swapped with their neighbour to make `b` of `a`. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let slips = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        slips = Math.min(slips, (before[j - 2] ?? 0) + 1);
      row.push(slips);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
