/** The fields of what is administered as flags: `--max-budget 25` is `max_budget_usd` of the message. */

import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { type Call, type Flag, type Flags, UsageError } from "./command.ts";

/** A flag that sets a field. */
export interface FieldFlag extends Flag {
  /** As the message calls it. */
  readonly field: string;
  /** Makes the field's JSON of what was written. @throws UsageError */
  read(values: readonly string[]): JsonValue;
}

const text = (values: readonly string[]): JsonValue => values.at(-1) ?? "";
const words = (values: readonly string[]): JsonValue =>
  values
    .flatMap((value) => value.split(","))
    .map((word) => word.trim())
    .filter((word) => word !== "");

function matching(form: RegExp, what: string): (values: readonly string[]) => JsonValue {
  return (values) => {
    const value = values.at(-1) ?? "";
    if (!form.test(value)) throw new UsageError(`"${value}" is not ${what}`);
    return value;
  };
}

const usd = matching(/^\d{1,12}(\.\d+)?$/, "an amount of US dollars, such as 25 or 0.5");
const count = matching(/^\d{1,18}$/, "a whole number, such as 100");
const timeForm = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;

function time([value = ""]: readonly string[]): JsonValue {
  if (timeForm.test(value) && !Number.isNaN(Date.parse(value))) return value;
  throw new UsageError(`"${value}" is not a time such as 2027-01-31T00:00:00Z`);
}

/** What is written as NAME=VALUE, several times. */
function pairs(values: readonly string[], form: string): [string, string][] {
  return values.map((value) => {
    const at = value.lastIndexOf("=");
    if (at <= 0 || at === value.length - 1) throw new UsageError(`"${value}" is not ${form}`);
    return [value.slice(0, at), value.slice(at + 1)];
  });
}

function windows(values: readonly string[]): JsonValue {
  return pairs(values, "DURATION=USD, such as 1d=5").map(([duration, max]) => ({
    ...{ budget_duration: duration, max_budget_usd: usd([max]) },
  }));
}

function modelBudgets(values: readonly string[]): JsonValue {
  return pairs(values, "MODEL=USD or MODEL=USD/DURATION, such as gpt-4o=5/1d").map(([model, budget]) => {
    const [max = "", duration = ""] = budget.split("/");
    return { model, max_budget_usd: usd([max]), budget_duration: duration };
  });
}

/** The last value as a JSON object. @throws UsageError */
export function readJsonObject(values: readonly string[]): JsonObject {
  try {
    const value: unknown = JSON.parse(values.at(-1) ?? "");
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  } catch {
    // Said below.
  }
  throw new UsageError('it is not a JSON object, such as {"cost_centre":"research"}');
}

/** LiteLLM's further fields. */
export const extraField: Readonly<Record<string, FieldFlag>> = {
  extra: {
    ...{ field: "extra", value: "JSON", read: readJsonObject },
    meaning: "LiteLLM's further fields, added to those that are there; null takes one away",
  },
};

/** Of everything that has budgets and limits. */
export const limitFields: Readonly<Record<string, FieldFlag>> = {
  alias: { field: "alias", value: "NAME", meaning: "A name for people", read: text },
  models: { field: "models", value: "A,B", meaning: "Models that may be used, * wildcards allowed", read: words },
  "max-budget": { field: "max_budget_usd", value: "USD", meaning: "The most that may be spent in a period", read: usd },
  "soft-budget": {
    field: "soft_budget_usd",
    value: "USD",
    meaning: "From this much on operators are alerted",
    read: usd,
  },
  "budget-duration": {
    field: "budget_duration",
    value: "30d",
    meaning: "The period; without one it never resets",
    read: text,
  },
  window: {
    ...{ field: "budget_windows", value: "1d=5", multiple: true, read: windows },
    meaning: "A further budget with a period of its own",
  },
  "budget-id": { field: "budget_id", value: "ID", meaning: "A shared budget, for what is not set here", read: text },
  "rpm-limit": { field: "rpm_limit", value: "N", meaning: "Requests a minute", read: count },
  "tpm-limit": { field: "tpm_limit", value: "N", meaning: "Tokens a minute", read: count },
  "max-parallel-requests": { field: "max_parallel_requests", value: "N", meaning: "Calls in flight", read: count },
  organization: { field: "organization_id", value: "ID", meaning: "The organization it belongs to", read: text },
  "model-alias": {
    ...{ field: "aliases", value: "NAME=MODEL", multiple: true, meaning: "A name of its own for a model" },
    read: (values) => Object.fromEntries(pairs(values, "NAME=MODEL, such as best=gpt-4o")),
  },
  metadata: { field: "metadata", value: "JSON", meaning: "Anything to keep with it", read: readJsonObject },
  tags: { field: "tags", value: "A,B", meaning: "Tags that spend is booked under", read: words },
  ...extraField,
};

/** Of keys only. */
export const keyFields: Readonly<Record<string, FieldFlag>> = {
  ...limitFields,
  "model-budget": {
    ...{ field: "model_budgets", value: "gpt-4o=5/1d", multiple: true, read: modelBudgets },
    meaning: "What it may spend on one model",
  },
  "allowed-routes": {
    ...{ field: "allowed_routes", value: "A,B", read: words },
    meaning: "What its calls may use: groups such as llm_api_routes, or paths",
  },
  "enforced-params": {
    ...{ field: "enforced_params", value: "A,B", read: words },
    meaning: "What its calls must have, such as user or metadata.project",
  },
  "temp-budget-increase": {
    ...{ field: "temp_budget_increase_usd", value: "USD", read: usd },
    meaning: "How much more than its budget it may spend for a time; with --temp-budget-expires",
  },
  "temp-budget-expires": {
    ...{ field: "temp_budget_expire_time", value: "TIME", read: time },
    meaning: "When that ends, such as 2027-01-31T00:00:00Z",
  },
  user: { field: "user_id", value: "ID", meaning: "The user it belongs to", read: text },
  team: { field: "team_id", value: "ID", meaning: "The team it belongs to", read: text },
  expires: {
    field: "expire_time",
    value: "TIME",
    meaning: "When it stops working, such as 2027-01-31T00:00:00Z",
    read: time,
  },
};

/** The flag of updates that clears. */
export const clearFlag: Flags = {
  clear: { value: "FLAG", multiple: true, meaning: "Unset what this flag sets, for instance --clear max-budget" },
};

/** What the written ones of these flags say. @throws UsageError */
export function readFields(call: Call, fields: Readonly<Record<string, FieldFlag>>): JsonObject {
  const message: JsonObject = {};
  for (const [name, { field, read }] of Object.entries(fields)) {
    const values = call.flags.get(name);
    if (values === undefined) continue;
    try {
      message[field] = read(values);
    } catch (error) {
      if (error instanceof UsageError) throw new UsageError(`--${name}: ${error.message}`);
      throw error;
    }
  }
  return message;
}

/**
 * The same for an update.
 *
 * @param mayBeNothing whether there need be no change.
 * @returns also the fields meant, those of `--clear` included.
 * @throws UsageError
 */
export function readChange(
  call: Call,
  fields: Readonly<Record<string, FieldFlag>>,
  mayBeNothing = false,
): { readonly message: JsonObject; readonly paths: string[] } {
  const message = readFields(call, fields);
  const cleared = (call.flags.get("clear") ?? []).map((name) => {
    const field = fields[name.replace(/^--/, "")]?.field;
    if (field === undefined) throw new UsageError(`--clear: "${name}" is none of ${Object.keys(fields).join(", ")}`);
    if (field in message) throw new UsageError(`--clear: ${name} is set as well`);
    return field;
  });
  const paths = [...Object.keys(message), ...cleared];
  if (paths.length === 0 && !mayBeNothing) throw new UsageError("nothing to change: write at least one flag");
  return { message, paths };
}
