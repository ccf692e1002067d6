import type { Clock } from "../clock.ts";
import type { Nanos } from "../money.ts";
import { inBooks, lockLeases, post } from "./books.ts";
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
}

/** A column of spend_log: its name, its type, and what goes there. */
type Column = readonly [name: string, type: string, value: (record: SpendRecord) => unknown];

const columns: readonly Column[] = [
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
];
const names = columns.map(([name]) => name).join(", ");
const selected = columns.map(([name]) => (name === "tags" ? "tags::text[]" : name)).join(", ");
const parameters = columns.map(([, type], index) => `$${index + 3}::${type}[]`).join(", ");

/** Only the rows that were not there before come back, summed up for what they have to move. Sorted, so that two batches that share records queue up instead of blocking each other. */
const bookSql = `
  WITH booked AS (
    INSERT INTO spend_log (pod_id, booked_at, ${names})
    SELECT $1, $2, ${selected} FROM unnest(${parameters}) AS r (${names})
    ORDER BY call_id, attempt
    ON CONFLICT (call_id, attempt) DO NOTHING
    RETURNING key_id, lease_id, cost_nanos
  )
  SELECT t.*,
    ARRAY(SELECT budget_id FROM key_budgets b WHERE b.key_id = t.key_id ORDER BY budget_id) AS budget_ids,
    ARRAY(SELECT duration FROM key_budgets b WHERE b.key_id = t.key_id ORDER BY budget_id) AS durations,
    ARRAY(SELECT removed_at FROM key_budgets b WHERE b.key_id = t.key_id ORDER BY budget_id) AS removals
  FROM (SELECT key_id, lease_id, sum(cost_nanos)::bigint AS cost, count(*)::int AS count
        FROM booked GROUP BY key_id, lease_id) t`;

/** What the new records of one key and lease cost together. */
interface TotalRow extends Omit<SpendTotal, "budgets"> {
  readonly count: number;
  readonly budget_ids: readonly string[];
  readonly durations: readonly (string | null)[];
  readonly removals: readonly (Date | null)[];
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
      const totals = await client.query<TotalRow>(bookSql, [podId, now, ...values]);
      if (totals.length > 0) await this.#charge(client, totals, now);
      return records.length - totals.reduce((count, total) => count + total.count, 0);
    });
  }

  async #charge(client: Queryable, rows: readonly TotalRow[], now: Date): Promise<void> {
    const leases = await lockNamed(client, rows);
    const totals = rows.map(({ budget_ids, durations, removals, ...total }) => ({
      ...total,
      budgets: budget_ids.map((budget_id, place) => {
        return { budget_id, duration: durations[place] ?? null, removed_at: removals[place] ?? null };
      }),
    }));
    await post(client, postSpend(totals, leases, now.getTime(), this.#timeZone), now);
  }
}

async function lockNamed(client: Queryable, totals: readonly TotalRow[]): Promise<Map<string, LockedLease>> {
  const ids = totals.flatMap(({ lease_id }) => lease_id ?? []);
  if (ids.length === 0) return new Map();
  const leases = await lockLeases(client, "l.lease_id = ANY ($1::uuid[]) ORDER BY l.lease_id FOR NO KEY UPDATE", [ids]);
  return new Map(leases.map((lease) => [lease.leaseId, lease]));
}

/** A list as Postgres writes it: {"a","b"}. */
function arrayText(texts: readonly string[]): string {
  return `{${texts.map((text) => `"${text.replace(/["\\]/g, "\\$&")}"`).join(",")}}`;
}
