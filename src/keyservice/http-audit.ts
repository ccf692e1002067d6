/** LiteLLM's /audit endpoints. */

import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { AdminParts } from "./admin.ts";
import { type AuditFilter, type AuditRecord, auditActions } from "./audit-log.ts";
import { checkQuery, wholeNumber } from "./http-query.ts";
import type { ManagementRoutes, RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";

/** Our types of things as LiteLLM names the tables they are in. */
const tables: ReadonlyMap<string, string> = new Map([
  ["key", "LiteLLM_VerificationToken"],
  ["team", "LiteLLM_TeamTable"],
  ["user", "LiteLLM_UserTable"],
  ["organization", "LiteLLM_OrganizationTable"],
  ["end_user", "LiteLLM_EndUserTable"],
  ["tag", "LiteLLM_TagTable"],
  ["team_member", "LiteLLM_TeamMembership"],
  ["organization_member", "LiteLLM_OrganizationMembership"],
  ["budget", "LiteLLM_BudgetTable"],
  ["model", "LiteLLM_ProxyModelTable"],
  ["credential", "LiteLLM_CredentialsTable"],
]);
const parameters = ["page", "page_size", "changed_by", "action", "table_name", "object_id", "start_date", "end_date"];
const idForm = /^\d{1,18}$/;

/** The routes, by path. */
export const auditRoutes: ManagementRoutes = {
  "/audit": { method: "GET", access: "viewer", answer: list },
  "/audit/{id}": { method: "GET", access: "viewer", answer: one },
};

async function list({ audit }: AdminParts, { query }: RouteRequest): Promise<JsonObject> {
  checkQuery(query);
  const unknown = [...query.keys()].find((name) => !parameters.includes(name));
  if (unknown !== undefined) throw invalid(unknown, `is no filter of this list. There are ${parameters.join(", ")}.`);
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000, otherwise: 1 });
  const size = wholeNumber(query, "page_size", { min: 1, max: 100, otherwise: 10 });
  const { records, total } = await audit.list(filterOf(query), { limit: size, offset: (page - 1) * size });
  const total_pages = Math.ceil(total / size);
  return { audit_logs: records.map(rowOf), total, page, page_size: size, total_pages };
}

async function one({ audit }: AdminParts, { path: { id = "" } }: RouteRequest): Promise<JsonObject> {
  const filter = { auditId: idForm.test(id) ? BigInt(id) : -1n };
  const [record] = (await audit.list(filter, { limit: 1, offset: 0 })).records;
  if (record === undefined)
    throw new GatewayError("not_found", "There is no such row in the audit log.", { param: "id" });
  return rowOf(record);
}

function filterOf(query: URLSearchParams): AuditFilter {
  const action = query.get("action");
  const known = auditActions.find((each) => each === action);
  if (action !== null && known === undefined) throw invalid("action", `must be one of ${auditActions.join(", ")}.`);
  const table = query.get("table_name") ?? undefined;
  const objectType = [...tables].find(([, name]) => name === table)?.[0] ?? table;
  return {
    ...{ action: known, objectType },
    changedBy: query.get("changed_by") ?? undefined,
    objectId: query.get("object_id") ?? undefined,
    fromMs: momentOf(query, "start_date"),
    toMs: momentOf(query, "end_date"),
  };
}

function momentOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const ms = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (!(ms >= 0)) throw invalid(name, "must be a day or a time, such as 2026-11-26 or 2026-11-26T12:00:00Z.");
  return ms;
}

function rowOf(record: AuditRecord): JsonObject {
  return {
    id: String(record.auditId),
    updated_at: new Date(record.changedAtMs).toISOString(),
    changed_by: record.changedBy,
    changed_by_api_key: record.changedByKeyId ?? null,
    action: record.action,
    table_name: tables.get(record.objectType) ?? record.objectType,
    object_id: record.objectId,
    before_value: record.before ?? null,
    updated_values: record.after ?? null,
  };
}
