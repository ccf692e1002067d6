import type { KeyRules } from "../config/creation-rules.ts";
import type { EntityChange, EntityKind } from "./entity-fields.ts";
import { teamPermissionsOf, withPermissions } from "./team-permissions.ts";

/**
 * A new team's or user's fields, with the configuration's defaults for those that its maker leaves out. As in LiteLLM, null and empty
 * are left out too. Whoever names a budget template wants that one's budget and limits.
 */
export function withEntityDefaults(
  kind: EntityKind,
  change: EntityChange,
  { teamDefaults, userDefaults }: KeyRules,
): EntityChange {
  const defaults = kind === "team" ? teamDefaults : kind === "user" ? userDefaults : undefined;
  if (defaults === undefined) return change;
  const { models, role, memberPermissions, ...limits } = defaults;
  const isLimited = typeof change.budgetId === "string";
  const given = { ...(isLimited ? {} : limits), ...(models && { models }), ...(role && { role }) };
  const asked = Object.entries(change).filter(([, value]) => !isEmpty(value));
  const permissions =
    memberPermissions && teamPermissionsOf(change.extra) === undefined ? memberPermissions : undefined;
  return {
    ...change,
    ...given,
    ...Object.fromEntries(asked),
    ...(permissions && { extra: { ...change.extra, ...withPermissions(permissions) } }),
  };
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}
