/** Of the further fields of keys and teams, those that act in sidecars. */

import type { Json, JsonObject } from "../completion.ts";
import { actingSettings, complaintAbout } from "../config/own-rules.ts";
import { regionForm, regionNamed } from "../config/regions.ts";
import { invalid } from "./key-fields.ts";

/** A limit for calls to some model. */
export interface ModelLimit {
  /** `*` wildcards allowed. */
  readonly model: string;
  readonly kind: "requests" | "tokens";
  readonly ceiling: number;
}

const modelLimitKinds = { model_rpm_limit: "requests", model_tpm_limit: "tokens" } as const;
const modelLimitNames = Object.keys(modelLimitKinds) as (keyof typeof modelLimitKinds)[];
const routerSettings = "router_settings";
/** Whether what is said is kept out of traces. It only ever takes away. */
const hidesContent = "turn_off_message_logging";
const allowedRegion = "allowed_model_region";
const actingNames: ReadonlySet<string> = new Set([
  ...[...modelLimitNames, routerSettings, hidesContent],
  "allowed_cache_controls",
]);
const modelsMax = 1_000;
const nameCharsMax = 256;

/** @throws GatewayError `invalid_request` that names the first of them that cannot act. */
export function checkExtra(extra: JsonObject | undefined): void {
  if (extra === undefined) return;
  for (const name of modelLimitNames) checkModelLimits(extra[name], name);
  const hides = extra[hidesContent] ?? false;
  if (typeof hides !== "boolean") throw invalid(hidesContent, "must be true or false.");
  checkRegion(extra[allowedRegion]);
  const settings = extra[routerSettings];
  if (settings === undefined || settings === null) return;
  const complaint = isObject(settings) ? complaintAbout(settings) : "must be a JSON object, or null.";
  if (complaint !== undefined) throw invalid(routerSettings, complaint);
}

function checkRegion(said: Json | undefined): void {
  if (said === undefined || said === null || (typeof said === "string" && regionForm.test(regionNamed(said)))) return;
  throw invalid(allowedRegion, 'must be "eu", "us", a provider\'s region such as "eu-central-1", or null.');
}

function checkModelLimits(said: Json | undefined, name: string): void {
  if (said === undefined || said === null) return;
  const isRight = isObject(said) && Object.entries(said).every(([model, count]) => model !== "" && isCount(count));
  if (!isRight) throw invalid(name, 'must map models to whole numbers, such as {"gpt-4o": 100}, or be null.');
  const models = Object.keys(said);
  if (models.length > modelsMax) throw invalid(name, `must have at most ${modelsMax} models.`);
  if (models.some((model) => model.length > nameCharsMax)) {
    throw invalid(name, `must have models of at most ${nameCharsMax} characters.`);
  }
}

/** Limits by model. What is not of their form, as it may have been stored before it was checked, is nothing. */
export function modelLimitsOf(extra: JsonObject): ModelLimit[] {
  return modelLimitNames.flatMap((name) => {
    const said = extra[name];
    if (!isObject(said)) return [];
    return Object.entries(said).flatMap(([model, ceiling]) =>
      model !== "" && isCount(ceiling) ? [{ model, kind: modelLimitKinds[name], ceiling }] : [],
    );
  });
}

/** Whether one of the further fields does anything. */
export function acts(name: string): boolean {
  return actingNames.has(name);
}

/** SQL for an object with those of the further fields in a column that act. */
export function actingFields(column: string): string {
  return `jsonb_build_object(${[...modelLimitNames, routerSettings, hidesContent].map((name) => `'${name}', ${column}->'${name}'`).join(", ")})`;
}

/** SQL for where a customer's calls must be answered, as `regionNamed` spells it; "": anywhere. */
export function regionField(column: string): string {
  return `lower(regexp_replace(coalesce(${column}->>'${allowedRegion}', ''), '\\s', '', 'g'))`;
}

/** What acts of the `router_settings` of a key and its team. @returns undefined if nothing does. */
export function routerSettingsOf(key: JsonObject, team: JsonObject): JsonObject | undefined {
  const [own, common] = [key[routerSettings], team[routerSettings]];
  const all = { ...actingSettings(isObject(common) ? common : {}), ...actingSettings(isObject(own) ? own : {}) };
  return Object.keys(all).length === 0 ? undefined : all;
}

/** Whether a key or its team says so. */
export function hidesContentOf(key: JsonObject, team: JsonObject): boolean {
  return key[hidesContent] === true || team[hidesContent] === true;
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: Json | undefined): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
