import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { arrayText } from "./array-text.ts";
import { lockLeases, post } from "./books.ts";
import { type Booked, bookedDay, type Owner } from "./daily-spend.ts";
import type { Postgres, Queryable } from "./postgres.ts";
import { type ChargedBudget, type LockedLease, postSpend, type SpendTotal } from "./posting.ts";
import { Together } from "./together.ts";

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

type Value = string | bigint | number | boolean | Date | null;

/** A column of spend_log: its name, its type, and what goes there. */
type Column = readonly [name: string, type: string, value: (record: SpendRecord) => Value];

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
const ownerNames = ["team_id", "user_id", "organization_id"] as const;
const parameters = columns.map(([, type], index) => `$${index + 7}::${type}[]`).join(", ");

/**
 * Only the rows that were not there before come back. Sorted, so that two batches that share records queue up instead of blocking each
 * other. Whom a row was booked for stays with it, wherever its key belongs later.
 */
const bookSql = `
  INSERT INTO spend_log (pod_id, booked_at, ${ownerNames.join(", ")}, ${names})
  SELECT r.pod_id, $2, ${ownerNames.map((name) => `r.${name}`).join(", ")}, ${selected}
  FROM unnest($1::text[], $4::text[], $5::text[], $6::text[], ${parameters})
    AS r (pod_id, ${ownerNames.join(", ")}, ${names})
  ORDER BY r.call_id, r.attempt
  ON CONFLICT (call_id, attempt) DO NOTHING
  RETURNING call_id, attempt, ${bookedDay("$3")}`;

interface BookedRow {
  readonly call_id: string;
  readonly attempt: number;
  readonly day: string;
}

/** Whom the calls of keys are booked for, the budgets of all calls of keys, and those that calls name. */
const accountsSql = `
  SELECT k.key_id, coalesce(k.team_id, '') AS team_id, coalesce(k.user_id, '') AS user_id,
    coalesce(k.organization_id, t.organization_id, '') AS organization_id,
    NULL AS budget_id, NULL AS duration, NULL::timestamptz AS removed_at
  FROM keys k LEFT JOIN entities t ON t.scope = 'team' AND t.entity_id = k.team_id
  WHERE k.key_id = ANY ($1::text[])
  UNION ALL
  SELECT key_id, NULL, NULL, NULL, budget_id, duration, removed_at FROM key_budgets WHERE key_id = ANY ($1::text[])
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, budget_id, duration, removed_at FROM effective_budgets WHERE budget_id = ANY ($2::text[])`;

type AccountRow =
  | (Owner & { readonly budget_id: null })
  | (BudgetRow & {
      /** Null: it is not a key's. */
      readonly key_id: string | null;
    });

type BudgetRow = Omit<ChargedBudget, "cost">;

/** Whom and what calls may be charged to. */
interface Accounts {
  /** By key. Those that never were are not there. */
  readonly owners: ReadonlyMap<string, Owner>;
  /** Of all calls of a key. */
  readonly budgets: ReadonlyMap<string, readonly BudgetRow[]>;
  /** Those that calls name, by their ids. */
  readonly named: ReadonlyMap<string, BudgetRow>;
}

/** What one pod settles at once. */
interface Batch {
  readonly podId: string;
  readonly records: readonly SpendRecord[];
}

/** Records that are booked in one transaction: more make it no cheaper, and every row's lock is held longer. */
const togetherMax = 2_000;
/** Transactions at once: while one waits for the rows of another, or for the disk, it does not hold up the next. */
const transactionsAtOnce = 4;

/** Books what calls cost. */
export class Settlements {
  readonly #postgres: Postgres;
  readonly #clock: Clock;
  readonly #timeZone: string;
  /** Pods' batches that come at once move the same teams' budgets, wait for the same disk, and so share a transaction. */
  readonly #together = new Together<Batch, number>({
    work: (batches) => this.#book(batches),
    weigh: ({ records }) => records.length,
    weightMax: togetherMax,
    atOnce: transactionsAtOnce,
    failsAll: (error) => error instanceof GatewayError && error.code === "keyservice_unavailable",
  });

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
  settle(podId: string, records: readonly SpendRecord[]): Promise<number> {
    return this.#together.run({ podId, records });
  }

  /** @returns for each batch how many of its records were in the books before. */
  #book(batches: readonly Batch[]): Promise<number[]> {
    const timeZone = this.#timeZone;
    const unique = uniqueOf(batches);
    const records = [...unique.values()].map(({ record }) => record);
    const podIds = [...unique.values()].map(({ batch }) => batch.podId);
    return this.#postgres.transaction(async (client) => {
      const at = new Date(this.#clock.nowMs());
      const accounts = await readAccounts(client, records);
      const owners = records.map(({ keyId }) => ownerOf(accounts, keyId));
      const rows = await client.query<BookedRow>(
        bookSql,
        [
          ...[podIds, at, timeZone],
          ...ownerNames.map((name) => arrayText(owners.map((owner) => owner[name]))),
          ...columns.map(([, , value]) => arrayText(records.map(value))),
        ],
        "book",
      );
      const known = new Map(batches.map((batch) => [batch, batch.records.length]));
      const before = rows.map(({ call_id, attempt, day }) => {
        const found = unique.get(`${call_id} ${attempt}`);
        if (found === undefined) throw new Error(`${call_id} is not how the database writes a call's id.`);
        known.set(found.batch, (known.get(found.batch) ?? 0) - 1);
        return { owner: ownerOf(accounts, found.record.keyId), day, spend: found.record };
      });
      if (before.length > 0) await charge(client, before, accounts, { at, timeZone });
      return [...known.values()];
    });
  }
}

interface Unique {
  readonly record: SpendRecord;
  readonly batch: Batch;
}

/** Of records of the same attempt the first, by the attempt's name as the database writes it. */
function uniqueOf(batches: readonly Batch[]): Map<string, Unique> {
  const unique = new Map<string, Unique>();
  for (const batch of batches) {
    for (const record of batch.records) {
      const name = `${record.callId.toLowerCase()} ${record.attempt}`;
      if (!unique.has(name)) unique.set(name, { record, batch });
    }
  }
  return unique;
}

interface BookedRecord extends Booked {
  readonly spend: SpendRecord;
}

async function charge(
  client: Queryable,
  before: readonly BookedRecord[],
  accounts: Accounts,
  { at, timeZone }: { readonly at: Date; readonly timeZone: string },
): Promise<void> {
  const totals = totalsOf(
    before.map(({ spend }) => spend),
    accounts,
  );
  const leases = await lockNamed(client, totals);
  await post(client, postSpend(totals, leases, at.getTime(), timeZone), { at, timeZone, before });
}

async function readAccounts(client: Queryable, records: readonly SpendRecord[]): Promise<Accounts> {
  const keyIds = new Set(records.map(({ keyId }) => keyId));
  const budgetIds = new Set(records.flatMap(({ budgetIds }) => budgetIds));
  const rows = await client.query<AccountRow>(accountsSql, [[...keyIds], [...budgetIds]], "accounts");
  const owners = new Map<string, Owner>();
  const budgets = new Map<string, BudgetRow[]>();
  const named = new Map<string, BudgetRow>();
  for (const row of rows) {
    if (row.budget_id === null) owners.set(row.key_id, row);
    else if (row.key_id === null) named.set(row.budget_id, row);
    else budgets.set(row.key_id, [...(budgets.get(row.key_id) ?? []), row]);
  }
  return { owners, budgets, named };
}

function ownerOf({ owners }: Accounts, keyId: string): Owner {
  return owners.get(keyId) ?? { key_id: keyId, team_id: "", user_id: "", organization_id: "" };
}

/** What the records of one key and lease cost together, once for each budget they are charged to. */
function totalsOf(records: readonly SpendRecord[], { budgets, named }: Accounts): SpendTotal[] {
  const groups = Map.groupBy(records, ({ keyId, leaseId }) => `${keyId} ${leaseId?.toLowerCase()}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const { keyId, leaseId } = first;
    const cost = costOf(group);
    const charged: ChargedBudget[] = (budgets.get(keyId) ?? []).map((budget) => ({ ...budget, cost }));
    for (const id of new Set(group.flatMap(({ budgetIds }) => budgetIds))) {
      const budget = named.get(id);
      const naming = group.filter(({ budgetIds }) => budgetIds.includes(id));
      if (budget !== undefined) charged.push({ ...budget, cost: costOf(naming) });
    }
    return { keyId, leaseId: leaseId?.toLowerCase(), cost, budgets: charged };
  });
}

function costOf(records: readonly SpendRecord[]): Nanos {
  return records.reduce((sum, { cost }) => sum + cost, 0n);
}

async function lockNamed(client: Queryable, totals: readonly SpendTotal[]): Promise<Map<string, LockedLease>> {
  const ids = totals.flatMap(({ leaseId }) => leaseId ?? []);
  if (ids.length === 0) return new Map();
  const where = "l.lease_id = ANY ($1::uuid[]) ORDER BY l.lease_id FOR NO KEY UPDATE";
  const leases = await lockLeases(client, where, [ids], "leases");
  return new Map(leases.map((lease) => [lease.leaseId, lease]));
}
