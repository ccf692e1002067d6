/** The fields an operator may set on a key, and what they may be. The same for both faces. */

import { isRouteEntry } from "../allowed-routes.ts";
import type { Json, JsonObject } from "../completion.ts";
import type { Fault } from "../config/config.ts";
import { parseDuration } from "../duration.ts";
import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { readReference } from "./key-secrets.ts";

/** What one budget window allows. */
export interface BudgetLimit {
  /** The period, "1d" for instance; it tells the window from the key's others. */
  readonly duration: string;
  /** The most in a period. */
  readonly max: Nanos;
}

/** What a key may spend on one model. */
export interface ModelBudget {
  /** `*` wildcards allowed. */
  readonly model: string;
  /** Its period; null: it never resets. */
  readonly duration: string | null;
  readonly max: Nanos;
}

/** What a budget allows for a time on top of what it allows anyway. */
export interface TempBudget {
  /** More than zero. */
  readonly increase: Nanos;
  /** Unix time, milliseconds. */
  readonly untilMs: number;
}

/** What an operator may set. `null` says "none" or "no limit". */
export interface KeyFields {
  readonly alias: string | null;
  readonly userId: string | null;
  readonly teamId: string | null;
  readonly organizationId: string | null;
  /** Empty: all. `*` wildcards allowed. */
  readonly models: readonly string[];
  readonly aliases: Readonly<Record<string, string>>;
  readonly maxBudget: Nanos | null;
  readonly softBudget: Nanos | null;
  /** On top of `maxBudget`, for a time. */
  readonly tempBudget: TempBudget | null;
  /** The budget's period, "30d" for instance; null: it never resets. */
  readonly budgetDuration: string | null;
  /** Further budgets. A number under `monthly_budget` in `metadata` is one more. */
  readonly budgetLimits: readonly BudgetLimit[];
  /** A budget template, whose limits hold where the key says nothing itself. */
  readonly budgetId: string | null;
  readonly modelBudgets: readonly ModelBudget[];
  readonly rpmLimit: number | null;
  readonly tpmLimit: number | null;
  readonly maxParallelRequests: number | null;
  readonly metadata: JsonObject;
  readonly tags: readonly string[];
  readonly blocked: boolean;
  /** LiteLLM's groups of routes, paths, and paths with `*`. Empty: all. */
  readonly allowedRoutes: readonly string[];
  /** What calls must have, `.` between an object and its member. */
  readonly enforcedParams: readonly string[];
  /** Unix time, milliseconds; null: never. */
  readonly expiresAtMs: number | null;
  /** Fields that are kept and given back but do not act. */
  readonly extra: JsonObject;
}

/** Some fields. In an update those that are absent stay as they are, and those of `extra` are added to what is there. */
export type KeyChange = Partial<KeyFields> & {
  /** How long the key works from now, "30d" for instance; null or "-1": for ever. Instead of `expiresAtMs`. */
  readonly duration?: string | null;
};

/** What each face calls a field, for messages and `param`. */
export type FieldNames = Readonly<Record<keyof KeyFields | "duration" | "secret", string>>;

/** The most dollars a budget may have: what fits the books' 64 bits with room to add. */
const budgetNanosMax = 1_000_000_000n * 1_000_000_000n;
/** What a duration must be, as the end of a complaint. */
export const durationForm = 'a number and a unit, one of s, m, h, d, w, mo: "24h", "30d", "1mo".';
const nameLengthMax = 256;
const listLengthMax = 1000;
const nestingMax = 32;
/** The last moment RFC 3339 can write. */
const timeMsMax = Date.UTC(9999, 11, 31, 23, 59, 59);

/** @throws GatewayError `invalid_request` that names the first field that cannot be stored as it is. */
export function checkKeyChange(change: KeyChange, names: FieldNames): void {
  for (const field of ["alias", "userId", "teamId", "organizationId", "budgetId"] as const)
    checkName(change[field], names[field]);
  checkAlias(change.alias, names.alias);
  for (const field of ["models", "tags", "allowedRoutes", "enforcedParams"] as const) {
    checkNames(change[field], names[field]);
  }
  if (change.allowedRoutes?.every(isRouteEntry) === false) {
    throw invalid(
      names.allowedRoutes,
      'must have paths ("/v1/chat/completions", "/v1/*") or groups ("llm_api_routes").',
    );
  }
  checkNames(change.aliases && Object.entries(change.aliases).flat(), names.aliases);
  for (const field of ["maxBudget", "softBudget"] as const) checkBudget(change[field], names[field]);
  for (const field of ["rpmLimit", "tpmLimit", "maxParallelRequests"] as const) checkCount(change[field], names[field]);
  checkDuration(change.budgetDuration, names.budgetDuration);
  if (change.duration !== "-1") checkDuration(change.duration, names.duration);
  checkTempBudget(change.tempBudget, names.tempBudget);
  checkModelBudgets(change.modelBudgets, names.modelBudgets);
  checkTime(change.expiresAtMs, names.expiresAtMs);
  checkJson(change.metadata, names.metadata);
  checkJson(change.extra, names.extra);
  if (change.duration !== undefined && change.expiresAtMs !== undefined) {
    throw invalid(names.duration, `cannot be given together with \`${names.expiresAtMs}\`. Send one of them.`);
  }
}

/** Whether Postgres can hold a string: it has no NUL, and its surrogates are in pairs. */
export function isStorable(text: string): boolean {
  return !text.includes("\u0000") && text.isWellFormed();
}

/** @throws GatewayError `invalid_request` if a moment is outside the years 1970 to 9999. */
export function checkTime(timeMs: number | null | undefined, name: string): void {
  if (timeMs === null || timeMs === undefined) return;
  if (!(timeMs >= 0 && timeMs <= timeMsMax)) throw invalid(name, "must lie between the years 1970 and 9999.");
}

/** A complaint about a field: "`name` must be ...". */
export function invalid(name: string, complaint: string): GatewayError {
  return new GatewayError("invalid_request", `\`${name}\` ${complaint}`, { param: name });
}

/**
 * What the configuration's rules refuse.
 *
 * @param faults at least one.
 * @param nameOf says a path of the configuration in the words of the caller's face.
 */
export function refused(faults: readonly Fault[], nameOf: (path: string) => string): GatewayError {
  const all = faults.map(({ path, message }) => `${nameOf(path)}: ${message}`).join("; ");
  return new GatewayError("invalid_request", `${all}.`, { param: nameOf(faults[0]?.path ?? "") });
}

/** @throws GatewayError `conflict` for an etag that was sent and is not the current one. */
export function requireEtag(sent: string | undefined, current: string): void {
  if (sent === undefined || sent === current) return;
  throw new GatewayError("conflict", "It was changed meanwhile. Get it again, and send its new etag.", {
    param: "etag",
  });
}

/** @throws GatewayError `invalid_request` for what is too long, empty, or more than Postgres can hold. */
export function checkName(text: string | null | undefined, name: string): void {
  if (text === null || text === undefined) return;
  if (text === "") throw invalid(name, "must not be empty. Leave it out, or send null to clear it.");
  if ([...text].length > nameLengthMax) throw invalid(name, `must have at most ${nameLengthMax} characters.`);
  if (!isStorable(text)) throw invalid(name, "must be valid Unicode without NUL characters.");
}

/** An alias that looked like an id, a digest or a secret would be taken for one; a secret would also stand there to be read. */
function checkAlias(alias: string | null | undefined, name: string): void {
  if (alias === null || alias === undefined || readReference(alias).kind === "alias") return;
  throw invalid(name, 'must not look like a secret ("sk-..."), a key id ("key_...") or a SHA-256 digest.');
}

function checkNames(texts: readonly string[] | undefined, name: string): void {
  if (texts === undefined) return;
  if (texts.length > listLengthMax) throw invalid(name, `must have at most ${listLengthMax} entries.`);
  for (const text of texts) {
    if (text === "") throw invalid(name, "must not have empty entries.");
    checkName(text, name);
  }
}

/** @throws GatewayError `invalid_request` if an amount is negative or more than the books can hold. */
export function checkBudget(amount: Nanos | null | undefined, name: string): void {
  if (amount === null || amount === undefined) return;
  if (amount < 0n) throw invalid(name, "must not be negative. Send null for no limit.");
  if (amount > budgetNanosMax) throw invalid(name, "must be at most 1000000000 dollars. Send null for no limit.");
}

function checkTempBudget(budget: TempBudget | null | undefined, name: string): void {
  if (budget === null || budget === undefined) return;
  checkBudget(budget.increase, name);
  if (budget.increase === 0n) throw invalid(name, "must be more than zero. Send null for none.");
  checkTime(budget.untilMs, name);
}

function checkModelBudgets(budgets: readonly ModelBudget[] | undefined, name: string): void {
  if (budgets === undefined) return;
  if (budgets.length > listLengthMax) throw invalid(name, `must have at most ${listLengthMax} entries.`);
  for (const { model, duration, max } of budgets) {
    checkNames([model], name);
    checkBudget(max, name);
    checkDuration(duration, name);
  }
  if (new Set(budgets.map(({ model, duration }) => `${duration} ${model}`)).size < budgets.length) {
    throw invalid(name, "must have each model and period only once.");
  }
}

function checkCount(count: number | null | undefined, name: string): void {
  if (count === null || count === undefined || (Number.isSafeInteger(count) && count >= 0)) return;
  throw invalid(name, "must be a whole number, zero or more. Send null for no limit.");
}

function checkDuration(text: string | null | undefined, name: string): void {
  if (text === null || text === undefined || parseDuration(text) !== undefined) return;
  throw invalid(name, `must be ${durationForm}`);
}

/** JSON as deep as both Postgres and we can walk it, with strings that Postgres can hold. @throws GatewayError `invalid_request`. */
export function checkJson(value: Json | undefined, name: string, nesting = 0): void {
  if (nesting > nestingMax) throw invalid(name, `must not be nested deeper than ${nestingMax} levels.`);
  if (typeof value === "string" && !isStorable(value)) {
    throw invalid(name, "must hold valid Unicode without NUL characters.");
  }
  if (typeof value === "number" && !Number.isFinite(value)) throw invalid(name, "holds a number that is too large.");
  if (typeof value !== "object" || value === null) return;
  for (const [key, entry] of Object.entries(value)) {
    checkJson(key, name);
    checkJson(entry, name, nesting + 1);
  }
}
