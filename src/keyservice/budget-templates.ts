/** Budget templates: limits that many things may share, each counting for itself. LiteLLM's /budget/*. */

import pg from "pg";
import type { Clock } from "../clock.ts";
import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { bumpRevision, everything } from "./changes.ts";
import { checkKeyChange, type FieldNames, invalid, requireEtag } from "./key-fields.ts";
import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";

/** What an operator may set. */
export interface TemplateFields {
  readonly maxBudget: Nanos | null;
  readonly softBudget: Nanos | null;
  readonly budgetDuration: string | null;
  readonly rpmLimit: number | null;
  readonly tpmLimit: number | null;
  readonly maxParallelRequests: number | null;
  /** Fields that are kept and given back but do not act. */
  readonly extra: JsonObject;
}

/** A template as it stands. */
export interface TemplateRecord extends TemplateFields {
  readonly budgetId: string;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly updatedAtMs: number;
  readonly updatedBy: string;
  readonly version: bigint;
}

interface TemplateRow {
  template_id: string;
  max_nanos: bigint | null;
  soft_nanos: bigint | null;
  duration: string | null;
  rpm_limit: bigint | null;
  tpm_limit: bigint | null;
  max_parallel_requests: bigint | null;
  extra: JsonObject;
  created_at: Date;
  created_by: string;
  updated_at: Date;
  updated_by: string;
  version: bigint;
}

const columns = {
  maxBudget: "max_nanos",
  softBudget: "soft_nanos",
  budgetDuration: "duration",
  rpmLimit: "rpm_limit",
  tpmLimit: "tpm_limit",
  maxParallelRequests: "max_parallel_requests",
} as const satisfies Partial<Record<keyof TemplateFields, string>>;

/** The templates. A change is in force for all that use one as soon as sidecars have heard of it. */
export class BudgetTemplates {
  readonly #postgres: Database;
  readonly #clock: Clock;
  readonly #operator: Operator;

  constructor(parts: { readonly postgres: Database; readonly clock: Clock; readonly operator: Operator }) {
    this.#operator = parts.operator;
    this.#postgres = parts.postgres;
    this.#clock = parts.clock;
  }

  /**
   * @param asked.requestId a UUID; a repeated one returns the template of the first.
   * @throws GatewayError `invalid_request`, `already_exists`.
   */
  async create(
    budgetId: string,
    fields: Partial<TemplateFields>,
    asked: { readonly names: FieldNames; readonly requestId?: string | undefined },
  ): Promise<TemplateRecord> {
    const { names, requestId = null } = asked;
    checkKeyChange({ ...fields, budgetId }, names);
    return this.#postgres.transaction(async (client) => {
      const version = await bumpRevision(client, everything);
      const earlier = "SELECT * FROM budget_templates WHERE create_request_id = $1";
      const [known] = await client.query<TemplateRow>(earlier, [requestId]);
      if (known !== undefined) return recordOf(known);
      const made = await client.query(
        `INSERT INTO budget_templates (template_id, created_at, created_by, updated_at, updated_by, version, create_request_id)
         VALUES ($1, $2, $3, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1`,
        [budgetId, new Date(this.#clock.nowMs()), this.#operator.name, version, requestId],
      );
      if (made.length === 0) {
        throw new GatewayError("already_exists", `There is a budget with this \`${names.budgetId}\` already.`, {
          param: names.budgetId,
        });
      }
      return this.#write(client, budgetId, fields, version);
    });
  }

  /** @throws GatewayError `invalid_request`, `not_found`, `conflict`. */
  async update(
    budgetId: string,
    fields: Partial<TemplateFields>,
    asked: { readonly names: FieldNames; readonly etag?: string | undefined },
  ): Promise<TemplateRecord> {
    checkKeyChange({ ...fields, budgetId }, asked.names);
    return this.#postgres.transaction(async (client) => {
      const version = await bumpRevision(client, everything);
      const current = "SELECT * FROM budget_templates WHERE template_id = $1";
      const [row] = await client.query<TemplateRow>(current, [budgetId]);
      if (row === undefined) throw noTemplate(budgetId);
      requireEtag(asked.etag, templateEtag(row));
      return this.#write(client, budgetId, fields, version);
    });
  }

  /** @throws GatewayError `not_found`; `conflict` while something uses it. */
  async delete(budgetId: string): Promise<void> {
    await this.#postgres.transaction(async (client) => {
      await bumpRevision(client, everything);
      const [used] = await client.query<{ scope: string; scope_id: string }>(
        "SELECT scope, scope_id FROM budgets WHERE template_id = $1 AND removed_at IS NULL LIMIT 1",
        [budgetId],
      );
      if (used !== undefined) {
        throw new GatewayError(
          "conflict",
          `The budget is used by the ${used.scope} ${used.scope_id}, and maybe by others. Give them another one first.`,
        );
      }
      await client.query("UPDATE budgets SET template_id = NULL WHERE template_id = $1", [budgetId]);
      const gone = await client.query("DELETE FROM budget_templates WHERE template_id = $1 RETURNING 1", [budgetId]);
      if (gone.length === 0) throw noTemplate(budgetId);
    });
  }

  /** Those of `budgetIds` that there are, or all, the newest first. */
  async list(budgetIds?: readonly string[]): Promise<TemplateRecord[]> {
    const rows = await this.#postgres.query<TemplateRow>(
      `SELECT * FROM budget_templates WHERE $1::text[] IS NULL OR template_id = ANY ($1)
       ORDER BY created_at DESC, template_id LIMIT 10000`,
      [budgetIds ?? null],
    );
    return rows.map(recordOf);
  }

  async #write(
    client: Queryable,
    budgetId: string,
    fields: Partial<TemplateFields>,
    version: bigint,
  ): Promise<TemplateRecord> {
    const now = new Date(this.#clock.nowMs());
    const values: unknown[] = [budgetId, now, this.#operator.name, version, JSON.stringify(fields.extra ?? {})];
    const changes = Object.entries(columns).flatMap(([field, column]) => {
      const value = fields[field as keyof typeof columns];
      return value === undefined ? [] : [`, ${column} = $${values.push(value)}`];
    });
    const [row] = await client.query<TemplateRow>(
      `UPDATE budget_templates SET updated_at = $2, updated_by = $3, version = $4, extra = extra || $5::jsonb ${changes.join("")}
       WHERE template_id = $1 RETURNING *`,
      values,
    );
    if (row === undefined) throw noTemplate(budgetId);
    return recordOf(row);
  }
}

/** Changes with every change of the template. */
export function templateEtag({ version }: Pick<TemplateRecord, "version">): string {
  return `v${version}`;
}

function recordOf(row: TemplateRow): TemplateRecord {
  const count = (value: bigint | null) => (value === null ? null : Number(value));
  return {
    budgetId: row.template_id,
    maxBudget: row.max_nanos,
    softBudget: row.soft_nanos,
    budgetDuration: row.duration,
    rpmLimit: count(row.rpm_limit),
    tpmLimit: count(row.tpm_limit),
    maxParallelRequests: count(row.max_parallel_requests),
    extra: row.extra,
    createdAtMs: row.created_at.getTime(),
    createdBy: row.created_by,
    updatedAtMs: row.updated_at.getTime(),
    updatedBy: row.updated_by,
    version: row.version,
  };
}

function noTemplate(budgetId: string): GatewayError {
  return new GatewayError(
    "not_found",
    `There is no budget ${JSON.stringify(budgetId)}. List the budgets to see which there are.`,
    {
      param: "budget_id",
    },
  );
}

/** Whether an error of the database says that a budget template does not exist. */
export function isUnknownTemplate(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.constraint === "budgets_template_id_fkey";
}

/** The complaint about it. */
export function noSuchTemplate(name: string): GatewayError {
  return invalid(name, "names no budget. Make it first (/budget/new), or leave it out.");
}
