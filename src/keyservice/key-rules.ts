/** What the configuration says of keys that are made or changed: defaults, and upper bounds that nobody gets over. */

import type { KeyRules } from "../config/creation-rules.ts";
import { durationMs, parseDuration } from "../duration.ts";
import { formatUsd } from "../money.ts";
import { type FieldNames, invalid, type KeyChange, type KeyFields } from "./key-fields.ts";
import type { Queryable } from "./postgres.ts";

/** Where the configuration says nothing. */
export const noKeyRules: KeyRules = { defaults: {}, bounds: {} };

const source = "`litellm_settings.upperbound_key_generate_params` says so";

/**
 * A new key's fields, with the defaults for those that its maker leaves out. As in LiteLLM, null and empty are left out too.
 *
 * @param ofService whether it is no user's, so that none is filled in.
 */
export function withDefaults(change: KeyChange, { defaults }: KeyRules, ofService = false): KeyChange {
  const asked = Object.entries(change).filter(([, value]) => !isEmpty(value));
  const { duration, ...others } = defaults;
  const isTimed = change.expiresAtMs !== undefined && change.expiresAtMs !== null;
  return {
    ...change,
    ...others,
    ...(duration === undefined || isTimed ? {} : { duration, expiresAtMs: undefined }),
    ...Object.fromEntries(asked),
    ...(ofService ? { userId: null } : {}),
  } as KeyChange;
}

/** What a key of a service must be: a team's, and nobody's. @throws GatewayError `invalid_request`. */
export function checkService(change: KeyChange, names: FieldNames): void {
  const { teamId, userId } = change;
  if (typeof userId === "string") throw invalid(names.userId, "must be left out: a service's key is no user's.");
  if (typeof teamId !== "string") throw invalid(names.teamId, "is missing: a service's key belongs to a team.");
}

/** The team a key is put into must be there. @throws GatewayError `invalid_request`. */
export async function requireTeam(
  client: Queryable,
  teamId: string | null | undefined,
  names: FieldNames,
): Promise<void> {
  if (teamId === null || teamId === undefined) return;
  const sql = "SELECT FROM entities WHERE scope = 'team' AND entity_id = $1 AND deleted_at IS NULL";
  if ((await client.query(sql, [teamId])).length === 0) {
    throw invalid(names.teamId, "names no team. Make it first (/team/new), or leave it out.");
  }
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0);
}

/**
 * Fields that keep within the bounds. What a new key leaves open gets the bound; so does what a change would set to "no limit".
 *
 * @param change already found to be valid.
 * @throws GatewayError `invalid_request` that says which bound is passed.
 */
export function bounded(
  change: KeyChange,
  { bounds }: KeyRules,
  asked: { readonly names: FieldNames; readonly isNew: boolean; readonly nowMs: number },
): KeyChange {
  const { names, isNew, nowMs } = asked;
  const filled: { -readonly [Name in keyof KeyChange]: KeyChange[Name] } = { ...change };
  const isOpen = (value: unknown) => value === null || (isNew && value === undefined);
  if (bounds.maxBudget !== undefined) {
    if (isOpen(change.maxBudget)) filled.maxBudget = bounds.maxBudget;
    else if ((change.maxBudget ?? 0n) > bounds.maxBudget) throw over(names.maxBudget, formatUsd(bounds.maxBudget));
  }
  for (const field of ["rpmLimit", "tpmLimit", "maxParallelRequests"] as const) {
    const bound = bounds[field];
    if (bound === undefined) continue;
    if (isOpen(change[field])) filled[field] = bound;
    else if ((change[field] ?? 0) > bound) throw over(names[field], String(bound));
  }
  if (bounds.budgetDuration !== undefined) {
    if (isOpen(change.budgetDuration)) filled.budgetDuration = bounds.budgetDuration;
    else if (lengthOf(change.budgetDuration ?? "") > lengthOf(bounds.budgetDuration)) {
      throw over(names.budgetDuration, bounds.budgetDuration);
    }
  }
  if (bounds.duration !== undefined) {
    const { duration, expiresAtMs } = change;
    if (typeof expiresAtMs === "number") {
      if (expiresAtMs - nowMs > lengthOf(bounds.duration)) throw over(names.expiresAtMs, `${bounds.duration} from now`);
    } else if (duration === "-1") throw over(names.duration, bounds.duration);
    else if (typeof duration === "string") {
      if (lengthOf(duration) > lengthOf(bounds.duration)) throw over(names.duration, bounds.duration);
    } else if (duration === null || expiresAtMs === null || isNew) {
      filled.duration = bounds.duration;
      delete filled.expiresAtMs;
    }
  }
  return filled;
}

/**
 * More budget for a time is within the bound of the budget too, or anybody could lift that for himself.
 *
 * @param key with the change in it.
 * @throws GatewayError `invalid_request`.
 */
export function checkTempBound(
  { maxBudget, tempBudget }: Pick<Partial<KeyFields>, "maxBudget" | "tempBudget">,
  { bounds }: KeyRules,
  { names, nowMs }: { readonly names: FieldNames; readonly nowMs: number },
): void {
  if (bounds.maxBudget === undefined || tempBudget == null || tempBudget.untilMs <= nowMs) return;
  if ((maxBudget ?? 0n) + tempBudget.increase <= bounds.maxBudget) return;
  throw over(names.tempBudget, `what keeps the whole budget within ${formatUsd(bounds.maxBudget)}`);
}

function over(name: string, bound: string): Error {
  return invalid(name, `must be at most ${bound}: ${source}.`);
}

/** In milliseconds. */
function lengthOf(text: string): number {
  const length = parseDuration(text);
  return length === undefined ? 0 : durationMs(length);
}
