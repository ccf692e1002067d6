/** What members of a team may do to its keys: `team_member_permissions`, among a team's further fields. */

import type { JsonObject } from "../completion.ts";
import { invalid } from "./key-fields.ts";

/** Among a team's further fields. */
const field = "team_member_permissions";

/** What members may unless their team says otherwise. */
const usualPermissions: readonly string[] = ["/key/info", "/key/health"];

/** What a team may let its members do. LiteLLM has more paths; they are kept, and let nobody do anything. */
export const allPermissions: readonly string[] = [
  ...["/key/info", "/key/health", "/key/generate", "/key/update", "/key/delete", "/key/regenerate"],
];

/** What a team's members may, given what the team says. */
export function permissionsOf(said: unknown): readonly string[] {
  return Array.isArray(said) ? said : usualPermissions;
}

/** Those of a team's further fields. */
export function teamPermissions(extra: JsonObject): string[] {
  return permissionsOf(extra[field]).map(String);
}

/** What a team's further fields say of it; undefined: nothing. */
export function teamPermissionsOf(extra: JsonObject | undefined): unknown {
  return extra?.[field] ?? undefined;
}

/** The further fields that say so. */
export function withPermissions(permissions: readonly string[]): JsonObject {
  return { [field]: [...permissions] };
}

/** @throws GatewayError `invalid_request` for anything but a list of paths. */
export function checkPermissions(extra: JsonObject | undefined): void {
  const said = extra?.[field];
  if (said === undefined || said === null) return;
  const arePaths = Array.isArray(said) && said.every((one) => typeof one === "string" && one.startsWith("/"));
  if (!arePaths) throw invalid(field, `must be a list of paths, such as ${allPermissions.join(", ")}.`);
}

/** Whether nothing is to be changed but these: a team's administrator may. */
export function isPermissionsOnly(change: { readonly extra?: JsonObject }): boolean {
  const { extra = {}, ...others } = change;
  return Object.keys(others).length === 0 && Object.keys(extra).join() === field;
}
