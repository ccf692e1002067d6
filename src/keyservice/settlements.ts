import type { Clock } from "../clock.ts";
import type { Nanos } from "../money.ts";
import { inBooks, lockLeases, post } from "./books.ts";
import { addToDays, type DailySums, summedColumns, sumsOf } from "./daily-spend.ts";
import type { Postgres, Queryable } from "./postgres.ts";
import { type LockedLease, postSpend, type SpendTotal } from "./posting.ts";

/** How a provider attempt ended, in the books' words. */
export type SpendStatus = "success" | "failure" | "cancelled" | "unconfirmed";

/** What one provider attempt cost. */
export interface SpendRecord {
  /** A UUID. */
  readonly callId: string;
  /** From 1. */
  readonly attempt: number;
  readonly keyId: string;
  /** A UUID; undefined: no lease was needed. */
  readonly leaseId: string | undefined;
  readonly cost: Nanos;
  readonly reserved: Nanos;
  readonly status: SpendStatus;
  readonly usageEstimated: boolean;
  readonly operation: string;
  readonly modelGroup: string;
  readonly model: string;
  readonly provider: string;
  readonly deploymentId: string;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly cacheReadInputTokens: bigint;
  readonly cacheWriteInputTokens: bigint;
  readonly reasoningOutputTokens: bigint;
  readonly startedAt: Date;
  readonly endedAt: Date | undefined;
  readonly firstOutputAt: Date | undefined;
  readonly priceVersion: string;
  readonly endUser: string;
  readonly tags: readonly string[];
  readonly providerResponseId: string;
  readonly traceId: string;
  /** Budgets it is charged to besides those of every call of the key. */
  readonly budgetIds: readonly string[];
  /** Whether it is an answer given again, for which no provider was called. */
  readonly cacheHit: boolean;
}

/** A column of spend_log: its name, its type, and what goes there. */
type Column = readonly [name: string, type: string, value: (record: SpendRecord) => unknown];

/** What of a record is written, and where. */
export const columns: readonly Column[] = [
  ["call_id", "uuid", (r) => r.callId],
  ["attempt", "int", (r) => r.attempt],
  ["key_id", "text", (r) => r.keyId],
  ["lease_id", "uuid", (r) => r.leaseId ?? null],
  ["cost_nanos", "bigint", (r) => r.cost],
  ["reserved_nanos", "bigint", (r) => r.reserved],
  ["status", "text", (r) => r.status],
  ["usage_estimated", "boolean", (r) => r.usageEstimated],
  ["operation", "text", (r) => r.operation],
  ["model_group", "text", (r) => r.modelGroup],
  ["model", "text", (r) => r.model],
  ["provider", "text", (r) => r.provider],
  ["deployment_id", "text", (r) => r.deploymentId],
  ["input_tokens", "bigint", (r) => r.inputTokens],
  ["output_tokens", "bigint", (r) => r.outputTokens],
  ["cache_read_input_tokens", "bigint", (r) => r.cacheReadInputTokens],
  ["cache_write_input_tokens", "bigint", (r) => r.cacheWriteInputTokens],
  ["reasoning_output_tokens", "bigint", (r) => r.reasoningOutputTokens],
  ["started_at", "timestamptz", (r) => r.startedAt],
  ["ended_at", "timestamptz", (r) => r.endedAt ?? null],
  ["first_output_at", "timestamptz", (r) => r.firstOutputAt ?? null],
  ["price_version", "text", (r) => r.priceVersion],
  ["end_user", "text", (r) => r.endUser],
  // unnest would take lists of lists apart, so each list travels as the text of an array.
  ["tags", "text", (r) => arrayText(r.tags)],
  ["provider_response_id", "text", (r) => r.providerResponseId],
  ["trace_id", "text", (r) => r.traceId],
  ["budget_ids", "text", (r) => arrayText(r.budgetIds)],
  ["cache_hit", "boolean", (r) => r.cacheHit],
];
const names = columns.map(([name]) => name).join(", ");
const lists = new Set(["tags", "budget_ids"]);
const selected = columns.map(([name]) => (lists.has(name) ? `r.${name}::text[]` : `r.${name}`)).join(", ");
const parameters = columns.map(([, type], index) => `$${index + 4}::${type}[]`).join(", ");

/**
 * Only the rows that were not there before come back, summed up for what they have to move. Sorted, so that two batches that share
 * records queue up instead of blocking each other. Whom a row was booked for stays with it, wherever its key belongs later.
 */
const bookSql = `
  WITH booked AS (
    INSERT INTO spend_log (pod_id, booked_at, team_id, user_id, organization_id, ${names})
    SELECT $1, $2, coalesce(k.team_id, ''), coalesce(k.user_id, ''), coalesce(k.organization_id, t.organization_id, ''), ${selected}
    FROM unnest(${parameters}) AS r (${names})
      LEFT JOIN keys k ON k.key_id = r.key_id
      LEFT JOIN entities t ON t.scope = 'team' AND t.entity_id = k.team_id
    ORDER BY r.call_id, r.attempt
    ON CONFLICT (call_id, attempt) DO NOTHING
    RETURNING lease_id, budget_ids, ${summedColumns}
  ), paid AS (
    SELECT key_id, lease_id, sum(cost_nanos) AS cost, count(*) AS count FROM booked GROUP BY key_id, lease_id
  ), named AS (
    SELECT key_id, lease_id, budget_id, sum(cost_nanos) AS cost FROM booked, unnest(budget_ids) AS n (budget_id)
    GROUP BY key_id, lease_id, budget_id
  ), charged AS (
    SELECT p.key_id, p.lease_id, b.budget_id, b.duration, b.removed_at, p.cost FROM paid p JOIN key_budgets b USING (key_id)
    UNION ALL
    SELECT n.key_id, n.lease_id, b.budget_id, b.duration, b.removed_at, n.cost FROM named n JOIN effective_budgets b USING (budget_id)
  )
  SELECT p.key_id, p.lease_id, p.cost::bigint AS cost, p.count::int AS count,
    CASE WHEN row_number() OVER () = 1 THEN ${sumsOf("booked", "$3")} END AS sums,
    b.budget_id, b.duration, b.removed_at, b.cost::bigint AS budget_cost
  FROM paid p LEFT JOIN charged b ON b.key_id = p.key_id AND b.lease_id IS NOT DISTINCT FROM p.lease_id
  ORDER BY p.key_id, p.lease_id, b.budget_id`;

/** What the new records of one key and lease cost together, once for each budget they are charged to. */
interface ChargeRow {
  readonly key_id: string;
  readonly lease_id: string | null;
  readonly cost: Nanos;
  readonly count: number;
  /** In one of the rows. */
  readonly sums: DailySums;
  readonly budget_id: string | null;
  readonly duration: string | null;
  readonly removed_at: Date | null;
  readonly budget_cost: Nanos | null;
}

/** Books what calls cost. */
export class Settlements {
  readonly #postgres: Postgres;
  readonly #clock: Clock;
  readonly #timeZone: string;

  constructor(parts: { readonly postgres: Postgres; readonly clock: Clock; readonly timeZone: string }) {
    this.#postgres = parts.postgres;
    this.#clock = parts.clock;
    this.#timeZone = parts.timeZone;
  }

  /**
   * Books records, all or none, each (call, attempt) once. What was lent by a lease is charged to the lease's periods; what was not, or by
   * a lease nobody knows any more, to the periods of now.
   *
   * @returns how many of them were in the books before.
   * @throws whatever Postgres throws.
   */
  async settle(podId: string, records: readonly SpendRecord[]): Promise<number> {
    return inBooks(this.#postgres, async (client) => {
      const now = new Date(this.#clock.nowMs());
      const values = columns.map(([, , value]) => records.map(value));
      const rows = await client.query<ChargeRow>(bookSql, [podId, now, this.#timeZone, ...values]);
      const totals = totalsOf(rows);
      if (totals.length > 0)
        await this.#charge(client, totals, rows.find(({ sums }) => sums !== null)?.sums ?? null, now);
      return records.length - totals.reduce((count, total) => count + total.count, 0);
    });
  }

  async #charge(client: Queryable, totals: readonly SpendTotal[], sums: DailySums, now: Date): Promise<void> {
    const leases = await lockNamed(client, totals);
    const timeZone = this.#timeZone;
    await post(client, postSpend(totals, leases, now.getTime(), timeZone), { at: now, timeZone });
    await addToDays(client, sums);
  }
}

function totalsOf(rows: readonly ChargeRow[]): (SpendTotal & { readonly count: number })[] {
  const groups = Map.groupBy(rows, ({ key_id, lease_id }) => `${key_id} ${lease_id}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const budgets = group.flatMap(({ budget_id, duration, removed_at, budget_cost: cost }) =>
      budget_id === null || cost === null ? [] : { budget_id, duration, removed_at, cost },
    );
    const { key_id: keyId, lease_id, cost, count } = first;
    return { keyId, leaseId: lease_id ?? undefined, cost, count, budgets };
  });
}

async function lockNamed(client: Queryable, totals: readonly SpendTotal[]): Promise<Map<string, LockedLease>> {
  const ids = totals.flatMap(({ leaseId }) => leaseId ?? []);
  if (ids.length === 0) return new Map();
  const leases = await lockLeases(client, "l.lease_id = ANY ($1::uuid[]) ORDER BY l.lease_id FOR NO KEY UPDATE", [ids]);
  return new Map(leases.map((lease) => [lease.leaseId, lease]));
}

/** A list as Postgres writes it: {"a","b"}. */
function arrayText(texts: readonly string[]): string {
  return `{${texts.map((text) => `"${text.replace(/["\\]/g, "\\$&")}"`).join(",")}}`;
}
