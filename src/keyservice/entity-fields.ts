/** What budgets and limits belong to besides keys, and what an operator may set on it. The same for both faces. */

import type { JsonObject } from "../completion.ts";
import { checkExtra } from "./extra-fields.ts";
import { checkKeyChange, type FieldNames, invalid, type KeyFields } from "./key-fields.ts";
import { checkWindows } from "./key-windows.ts";
import { checkPermissions } from "./team-permissions.ts";

/** What an entity is. Customers are LiteLLM's end users. */
export type EntityKind = "team" | "user" | "organization" | "end_user" | "tag";

/** What each is called in messages. */
export const kindWords: Readonly<Record<EntityKind, string>> = {
  team: "team",
  user: "user",
  organization: "organization",
  end_user: "customer",
  tag: "tag",
};

/** LiteLLM's roles of users; what each may do is in `operator.ts`. */
export const userRoles = [
  "proxy_admin",
  "proxy_admin_viewer",
  "org_admin",
  "internal_user",
  "internal_user_viewer",
  "team",
  "customer",
] as const;
export type UserRole = (typeof userRoles)[number];

/** What an operator may set. `null` says "none" or "no limit". */
export interface EntityFields
  extends Pick<
    KeyFields,
    | "alias"
    | "organizationId"
    | "models"
    | "aliases"
    | "maxBudget"
    | "softBudget"
    | "budgetDuration"
    | "budgetLimits"
    | "budgetId"
    | "rpmLimit"
    | "tpmLimit"
    | "maxParallelRequests"
    | "metadata"
    | "tags"
    | "blocked"
    | "extra"
  > {
  readonly email: string | null;
  readonly role: UserRole | null;
}

/** Some fields. In an update those that are absent stay as they are, and those of `extra` are added to what is there. */
export type EntityChange = Partial<EntityFields>;

/** What a face calls the fields, for messages and `param`. */
export type EntityNames = FieldNames & Readonly<Record<"id" | "email" | "role", string>>;

const idCharsMax = 256;

/** @throws GatewayError `invalid_request` that names the first field that cannot be stored as it is. */
export function checkEntity(change: EntityChange, names: EntityNames): void {
  const { email, role, alias, ...fields } = change;
  // Unlike a key's, an entity's alias is nothing it is found by.
  checkKeyChange(fields, names);
  checkKeyChange({ userId: alias ?? null }, { ...names, userId: names.alias });
  checkWindows(fields, names);
  checkPermissions(fields.extra);
  checkExtra(fields.extra);
  if (role !== undefined && role !== null && !userRoles.includes(role)) {
    throw invalid(names.role, `must be one of ${userRoles.join(", ")}.`);
  }
  if (email !== undefined && email !== null && !/^[^\s@]{1,128}@[^\s@]{1,127}$/.test(email)) {
    throw invalid(names.email, "must be an e-mail address, or null.");
  }
}

/** @throws GatewayError `invalid_request` if an id cannot be one. */
export function checkEntityId(kind: EntityKind, id: string, names: EntityNames): void {
  checkKeyChange({ userId: id }, { ...names, userId: names.id });
  if (id.length > idCharsMax) throw invalid(names.id, `must have at most ${idCharsMax} characters.`);
  if (kind === "team" && id.includes(":")) throw invalid(names.id, "must not have a colon.");
}

/** What an entity without any of it has. */
export const noFields: Pick<EntityFields, "budgetLimits" | "budgetDuration" | "metadata"> & { metadata: JsonObject } = {
  budgetLimits: [],
  budgetDuration: null,
  metadata: {},
};
