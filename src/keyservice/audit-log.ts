/** The audit log: who changed what, and when. Triggers of the database write it (migrations/0060_audit.sql). */

import type { JsonObject } from "../completion.ts";
import { isStorable } from "./key-fields.ts";
import type { Queryable } from "./postgres.ts";

/** What can have happened to a thing. */
export const auditActions = ["created", "updated", "deleted"] as const;
export type AuditAction = (typeof auditActions)[number];

/** All that one request changed of one thing. */
export interface AuditRecord {
  readonly auditId: bigint;
  readonly changedAtMs: number;
  readonly changedBy: string;
  /** The virtual key it was done with; undefined for the master key. */
  readonly changedByKeyId: string | undefined;
  readonly action: AuditAction;
  /** "key", "team", "team_member" and so on. */
  readonly objectType: string;
  readonly objectId: string;
  /** Undefined for what was created; of an update, what it changed. */
  readonly before: JsonObject | undefined;
  /** Undefined for what was deleted. */
  readonly after: JsonObject | undefined;
}

/** Which of them; absent: all. */
export interface AuditFilter {
  readonly auditId?: bigint | undefined;
  readonly changedBy?: string | undefined;
  readonly action?: AuditAction | undefined;
  readonly objectType?: string | undefined;
  readonly objectId?: string | undefined;
  readonly fromMs?: number | undefined;
  /** Up to, and without. */
  readonly toMs?: number | undefined;
}

interface Row {
  audit_id: bigint;
  changed_at: Date;
  changed_by: string;
  changed_by_key_id: string | null;
  action: AuditAction;
  object_type: string;
  object_id: string;
  before: JsonObject | null;
  after: JsonObject | null;
}

/** Reads it. */
export class AuditLog {
  readonly #books: Queryable;

  constructor(parts: { books: Queryable }) {
    this.#books = parts.books;
  }

  /** The newest first. @returns also how many there are altogether. */
  async list(
    filter: AuditFilter,
    page: { readonly limit: number; readonly offset: number },
  ): Promise<{ records: AuditRecord[]; total: number }> {
    const values: unknown[] = [];
    const conditions = ["true"];
    const holds = (condition: string, value: unknown) => {
      if (value === undefined) return;
      // What cannot be stored is nowhere.
      const isPossible = typeof value !== "string" || isStorable(value);
      conditions.push(isPossible ? condition.replace("?", `$${values.push(value)}`) : "false");
    };
    holds("audit_id = ?", filter.auditId);
    holds("changed_by = ?", filter.changedBy);
    holds("action = ?", filter.action);
    holds("object_type = ?", filter.objectType);
    holds("object_id = ?", filter.objectId);
    holds("changed_at >= ?", filter.fromMs === undefined ? undefined : new Date(filter.fromMs));
    holds("changed_at < ?", filter.toMs === undefined ? undefined : new Date(filter.toMs));
    const where = `FROM audit_log WHERE ${conditions.join(" AND ")}`;
    const [count] = await this.#books.query<{ count: bigint }>(`SELECT count(*) AS count ${where}`, values);
    const rows = await this.#books.query<Row>(
      `SELECT * ${where} ORDER BY changed_at DESC, audit_id DESC LIMIT $${values.push(page.limit)} OFFSET $${values.push(page.offset)}`,
      values,
    );
    return { records: rows.map(recordOf), total: Number(count?.count ?? 0n) };
  }
}

function recordOf(row: Row): AuditRecord {
  return {
    auditId: row.audit_id,
    changedAtMs: row.changed_at.getTime(),
    changedBy: row.changed_by,
    changedByKeyId: row.changed_by_key_id ?? undefined,
    action: row.action,
    objectType: row.object_type,
    objectId: row.object_id,
    before: row.before ?? undefined,
    after: row.after ?? undefined,
  };
}
