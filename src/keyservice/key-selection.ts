/** Which keys: filters, references and places in a list, as SQL conditions with parameters. */

import { isStorable } from "./key-fields.ts";
import type { KeyPlace, KeySelection } from "./key-records.ts";
import type { KeyReference } from "./key-secrets.ts";
import type { Sight } from "./operator.ts";
import { hashSecret, masterKeyId, type Pepper } from "./secrets.ts";

/** Which keys a list holds. Absent: all. The master key's own place in the books is in no list. */
export interface KeyFilter {
  readonly teamId?: string | undefined;
  readonly userId?: string | undefined;
  readonly organizationId?: string | undefined;
  /** The key must be what each of these says. */
  readonly references?: readonly KeyReference[];
  /** Deleted keys instead of living ones. */
  readonly deleted?: boolean;
  /** Only those an operator sees; undefined: all. */
  readonly sight?: Sight | undefined;
}

/** By age, newest first; keys of the same moment by id. */
export const newestFirst = "ORDER BY k.created_at DESC, k.key_id";

/** What a list of keys can be sorted by, as LiteLLM calls it. */
const sortColumns = {
  created_at: "k.created_at",
  updated_at: "k.updated_at",
  expires: "k.expires_at",
  key_alias: "k.alias",
  key_name: "k.masked",
  token: "k.key_id",
  user_id: "k.user_id",
  team_id: "k.team_id",
  organization_id: "k.organization_id",
  max_budget: "(SELECT max_nanos FROM budgets WHERE scope = 'key' AND scope_id = k.key_id AND place = 0)",
} as const;

/** How a list of keys is sorted. */
export interface KeyOrder {
  readonly by: keyof typeof sortColumns;
  readonly isDescending: boolean;
}

/** The names of what keys can be sorted by. */
export const keyOrders = Object.keys(sortColumns) as readonly KeyOrder["by"][];

/** Keys that lack what they are sorted by come last; those that have the same, by id. */
export function sortedBy({ by, isDescending }: KeyOrder): string {
  return `ORDER BY ${sortColumns[by]} ${isDescending ? "DESC" : "ASC"} NULLS LAST, k.key_id`;
}

/** A moment in microseconds as a timestamp, exactly. `parameter` is "$1" or the like. */
export function momentOf(parameter: string): string {
  return `(timestamptz 'epoch' + ${parameter}::bigint * interval '1 microsecond')`;
}

/** The keys of a filter; of those, with `after`, the ones that come later in the list. */
export function selectKeys(
  filter: KeyFilter,
  { pepper, nowMs }: { readonly pepper: Pepper; readonly nowMs: number },
  after?: KeyPlace,
): KeySelection {
  const values: unknown[] = [];
  const parameter = (value: unknown) => `$${values.push(value)}`;
  const life = filter.deleted === true ? "IS NOT NULL" : "IS NULL";
  const conditions = [`k.deleted_at ${life}`, `k.key_id <> ${parameter(masterKeyId)}`];
  const equals = (column: string, value: string | undefined) => {
    if (value === undefined) return;
    // What cannot be stored is nowhere, and Postgres would not take it as a parameter either.
    conditions.push(isStorable(value) ? `${column} = ${parameter(value)}` : "false");
  };
  equals("k.team_id", filter.teamId);
  equals("k.user_id", filter.userId);
  equals("k.organization_id", filter.organizationId);
  if (filter.sight !== undefined) {
    const { keyId = "", userId = "", teamIds } = filter.sight;
    conditions.push(
      `(k.key_id = ${parameter(keyId)} OR k.user_id = ${parameter(userId)} OR k.team_id = ANY (${parameter(teamIds)}::text[]))`,
    );
  }
  for (const reference of filter.references ?? []) {
    if (reference.kind === "digest") {
      const hmac = parameter(hashSecret(reference.sha256, pepper));
      conditions.push(`k.key_id IN (
        SELECT key_id FROM keys WHERE secret_hmac = ${hmac} AND deleted_at ${life}
        UNION ALL SELECT key_id FROM former_secrets WHERE secret_hmac = ${hmac} AND ends_at > ${parameter(new Date(nowMs))})`);
    }
    if (reference.kind === "id") equals("k.key_id", reference.keyId);
    if (reference.kind === "alias") equals("k.alias", reference.alias);
  }
  if (after !== undefined) {
    const moment = momentOf(parameter(after.createdAtUs));
    conditions.push(`k.created_at <= ${moment} AND (k.created_at < ${moment} OR k.key_id > ${parameter(after.keyId)})`);
  }
  return { where: `WHERE ${conditions.join(" AND ")}`, values };
}
