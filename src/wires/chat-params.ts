/** What becomes of the parameters of a chat request that its provider has no place for. */

import type { Json, JsonObject } from "../completion.ts";
import type { ParamPolicy } from "../config/param-policy.ts";
import { ProviderFailure } from "../errors.ts";
import { arrayOf, isObject } from "./json.ts";

/** The changes a body needs: values by top-level key; undefined removes. */
export type Changes = Map<string, Json | undefined>;

/** Values that ask for nothing: clients send them without meaning to. */
const idle: Readonly<Record<string, Json>> = {
  n: 1,
  frequency_penalty: 0,
  presence_penalty: 0,
  logprobs: false,
  top_logprobs: 0,
  store: false,
};

/**
 * Finds what must be left out of a body. A caller may ask for the same as the operator, in the body's own `drop_params`,
 * `additional_drop_params` and `allowed_openai_params`.
 *
 * @param provider as LiteLLM names it.
 * @throws ProviderFailure `invalid_request`, naming a parameter the provider lacks and nobody allowed to drop.
 */
export function fitParams(body: JsonObject, policy: ParamPolicy, provider: string): Changes {
  const changes: Changes = new Map();
  for (const path of policy.leavesOut) leaveOut(changes, body, path);
  for (const path of textsOf(body.additional_drop_params)) leaveOut(changes, body, path);
  if (policy.lacks.size === 0) return changes;
  const allowed = textsOf(body.allowed_openai_params);
  for (const [key, value] of Object.entries(body)) {
    if (!policy.lacks.has(key) || allowed.includes(key)) continue;
    const isLeftOut = changes.has(key) && changes.get(key) === undefined;
    if (!isLeftOut && !isIdle(key, value)) dropOrRefuse(key, body, policy, provider);
    changes.set(key, undefined);
  }
  return changes;
}

/**
 * Judges a parameter that the provider cannot honour as it is.
 *
 * @returns if it is to be left out.
 * @throws ProviderFailure `invalid_request` if it is not.
 */
export function dropOrRefuse(param: string, body: JsonObject, policy: ParamPolicy, provider: string): void {
  if (policy.drops || body.drop_params === true) return;
  throw unsupported(param, `Provider "${provider}" does not take \`${param}\`. Leave it out, or set \`drop_params\`.`);
}

/** A request this provider cannot be asked. It was not sent, so nothing is charged. */
export function unsupported(param: string, message: string): ProviderFailure {
  return new ProviderFailure("invalid_request", message, { billable: false, param });
}

/** The body with the changes made. */
export function changed(body: JsonObject, changes: Changes): JsonObject {
  if (changes.size === 0) return body;
  const result = { ...body };
  for (const [key, value] of changes) {
    if (value === undefined) delete result[key];
    else result[key] = value;
  }
  return result;
}

/** @param path a name, or steps such as `tools[*].function.strict`; `*` stands for every item of a list. */
function leaveOut(changes: Changes, body: JsonObject, path: string): void {
  const [key, ...rest] = path.split(/[.[\]]+/).filter((step) => step !== "");
  if (key === undefined || !Object.hasOwn(body, key)) return;
  const value = changes.has(key) ? changes.get(key) : body[key];
  if (value !== undefined) changes.set(key, rest.length === 0 ? undefined : without(value, rest));
}

function without(value: Json, [step = "", ...rest]: readonly string[]): Json {
  if (Array.isArray(value)) {
    const applies = (index: number) => step === "*" || step === String(index);
    if (rest.length === 0) return value.filter((_, index) => !applies(index));
    return value.map((item, index) => (applies(index) ? without(item, rest) : item));
  }
  if (!isObject(value) || !Object.hasOwn(value, step)) return value;
  const { [step]: member = null, ...others } = value;
  return rest.length === 0 ? others : { ...others, [step]: without(member, rest) };
}

function isIdle(key: string, value: Json): boolean {
  return (
    value === null ||
    // A provider without it tells its usage unasked.
    key === "stream_options" ||
    idle[key] === value ||
    (key === "modalities" && String(value) === "text") ||
    (isObject(value) && Object.keys(value).length === 0)
  );
}

function textsOf(value: Json | undefined): readonly string[] {
  return arrayOf(value).filter((item) => typeof item === "string");
}
