/** Books in a real database, with a clock that tests can move, for the tests beside it. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type Clock, systemClock, systemRandom } from "../../src/clock.ts";
import type { BudgetLimit } from "../../src/keyservice/key-fields.ts";
import { insertKey, updateKey } from "../../src/keyservice/key-writes.ts";
import { Leases } from "../../src/keyservice/leases.ts";
import { Lender } from "../../src/keyservice/lender.ts";
import type { LeaseAnswer, LeaseAsk } from "../../src/keyservice/loan.ts";
import { migrate } from "../../src/keyservice/migrations.ts";
import { Postgres } from "../../src/keyservice/postgres.ts";
import { Recalls } from "../../src/keyservice/recalls.ts";
import { digestSecret, hashSecret } from "../../src/keyservice/secrets.ts";
import { Settlements, type SpendRecord } from "../../src/keyservice/settlements.ts";
import { Closers } from "../../src/lifecycle.ts";
import { Secret } from "../../src/secret.ts";
import { testDatabaseUrl } from "../postgres.ts";

/** The pepper of every stage. */
export const pepper = { id: "p1", value: new Secret("pepper of the tests") };
/** A lease's life on every stage. */
export const leaseTtlMs = 60_000;

/** How a key's budget stands in one period. */
export interface Standing {
  readonly spent: bigint;
  readonly reserved: bigint;
}

/** Everything a test needs of the books. */
export class BooksStage {
  readonly #closers = new Closers();
  /** What time it is; undefined: the real one. */
  nowMs: number | undefined;
  databaseUrl = new Secret("");
  postgres!: Postgres;
  leases!: Leases;
  lender!: Lender;
  settlements!: Settlements;
  readonly clock: Clock = { ...systemClock, nowMs: () => this.nowMs ?? systemClock.nowMs() };

  static async open(timeZone = "UTC"): Promise<BooksStage> {
    const stage = new BooksStage();
    const database = await testDatabaseUrl();
    stage.#closers.add("database", () => database.drop());
    stage.databaseUrl = new Secret(database.url);
    await migrate({ databaseUrl: stage.databaseUrl, clock: systemClock });
    stage.postgres = new Postgres({
      databaseUrl: stage.databaseUrl,
      clock: systemClock,
      random: systemRandom,
      onConnectionLost: () => {},
    });
    stage.#closers.add("pool", () => stage.postgres.close());
    const parts = { postgres: stage.postgres, clock: stage.clock, timeZone };
    stage.leases = new Leases({ ...parts, leaseTtlMs });
    const recalls = new Recalls({ books: stage.postgres, clock: systemClock });
    stage.lender = new Lender({ ...parts, leaseTtlMs, recalls, leases: stage.leases });
    stage.settlements = new Settlements(parts);
    return stage;
  }

  async close(): Promise<void> {
    await this.#closers.close((name, error) => {
      throw new Error(`could not close ${name}`, { cause: error });
    });
  }

  /** Makes a key with one budget, `max` undefined for no limit. @returns its id. */
  async key(max: bigint | undefined, duration?: string, secret: string = randomUUID()): Promise<string> {
    const keyId = `key_${randomUUID()}`;
    await this.postgres.transaction((client) =>
      insertKey(client, {
        keyId,
        secretHmac: hashSecret(digestSecret(secret), pepper),
        pepperId: pepper.id,
        masked: "sk-...test",
        createdBy: "test",
        requestId: undefined,
        fields: {
          ...(max === undefined ? {} : { maxBudget: max }),
          ...(duration === undefined ? {} : { budgetDuration: duration }),
        },
        nowMs: systemClock.nowMs(),
        version: 1n,
      }),
    );
    return keyId;
  }

  /** Gives a key further windows: those, and no others. */
  async windows(keyId: string, ...windows: readonly BudgetLimit[]): Promise<void> {
    const nowMs = this.clock.nowMs();
    await this.postgres.transaction((client) => updateKey(client, { keyId, fields: {}, windows, nowMs, version: 1n }));
  }

  /** Makes the main budget of something. @returns its id. */
  async budget(scope: string, scopeId: string, max: bigint, duration: string | null): Promise<string> {
    const budgetId = `budget_${randomUUID()}`;
    await this.postgres.query(
      "INSERT INTO budgets (budget_id, scope, scope_id, max_nanos, duration) VALUES ($1, $2, $3, $4, $5)",
      [budgetId, scope, scopeId, max, duration],
    );
    return budgetId;
  }

  acquire(keyId: string, min: bigint, want = min, ids: Partial<LeaseAsk> = {}): Promise<LeaseAnswer> {
    return this.lender.acquire({
      requestId: randomUUID(),
      leaseId: randomUUID(),
      podId: "pod",
      keyId,
      budgetIds: [],
      min,
      want,
      ahead: 0n,
      ...ids,
    });
  }

  /** Opens a lease that must be granted. @returns its id. */
  async lease(keyId: string, amount: bigint): Promise<string> {
    const leaseId = randomUUID();
    const answer = await this.acquire(keyId, amount, amount, { leaseId });
    assert.equal(answer.outcome, "granted");
    return leaseId;
  }

  settle(...records: readonly SpendRecord[]): Promise<number> {
    return this.settlements.settle("pod", records);
  }

  giveBack(leaseId: string, amount: bigint, close: boolean, requestId: string = randomUUID()): Promise<void> {
    return this.leases.giveBack([{ requestId, leaseId, amount, close }]);
  }

  /** How a key's main budget or one of its windows stands, over all periods or in the one that begins at `start`. */
  async standing(keyId: string, start?: string, window?: string): Promise<Standing> {
    const [row] = await this.postgres.query<{ spent: bigint; reserved: bigint }>(
      `SELECT coalesce(sum(p.spent_nanos), 0)::bigint AS spent, coalesce(sum(p.reserved_nanos), 0)::bigint AS reserved
       FROM budget_periods p
       WHERE p.budget_id = (SELECT budget_id FROM budgets WHERE scope_id = $1
           AND CASE WHEN $3::text IS NULL THEN place = 0 ELSE place > 0 AND duration = $3 END)
         AND ($2::timestamptz IS NULL OR p.period_start = $2)`,
      [keyId, start ?? null, window ?? null],
    );
    assert.ok(row !== undefined);
    return row;
  }

  /** What the spend log has under a key, oldest first. */
  async log(keyId: string): Promise<{ call_id: string; attempt: number; cost: bigint; status: string }[]> {
    return this.postgres.query(
      `SELECT call_id, attempt, cost_nanos AS cost, status FROM spend_log WHERE key_id = $1
       ORDER BY booked_at, status DESC, attempt DESC`,
      [keyId],
    );
  }

  /**
   * What must hold at any time: of every budget the sums agree with the spend log and with the open leases, and so do the sums by
   * day.
   */
  async check(): Promise<void> {
    const wrong = await this.postgres.query(
      `SELECT b.budget_id, p.spent, l.booked, p.reserved, o.outstanding
       FROM budgets b,
         LATERAL (SELECT array_agg(key_id) AS keys FROM key_budgets WHERE budget_id = b.budget_id) k,
         LATERAL (SELECT coalesce(sum(spent_nanos), 0) AS spent, coalesce(sum(reserved_nanos), 0) AS reserved
                  FROM budget_periods WHERE budget_id = b.budget_id) p,
         LATERAL (SELECT coalesce(sum(cost_nanos), 0) AS booked FROM spend_log
                  WHERE key_id = ANY (k.keys) OR b.budget_id = ANY (budget_ids)) l,
         LATERAL (SELECT coalesce(sum(outstanding_nanos), 0) AS outstanding FROM leases JOIN lease_periods USING (lease_id)
                  WHERE state = 'open' AND budget_id = b.budget_id) o
       WHERE p.spent <> l.booked OR p.reserved <> o.outstanding`,
    );
    assert.deepEqual(wrong, []);
    const misfiled = await this.postgres.query(
      "SELECT lease_id, state FROM lease_periods JOIN leases USING (lease_id) WHERE is_open <> (state = 'open')",
    );
    assert.deepEqual(misfiled, []);
    await this.checkDays();
  }

  /** The sums by day are those of the spend log, of everything that is summed. */
  async checkDays(timeZone = "UTC"): Promise<void> {
    const facts = "key_id, team_id, user_id, organization_id, model_group, model, provider";
    const sums = `sum(cost_nanos)::bigint AS cost, sum(input_tokens)::bigint AS input, sum(output_tokens)::bigint AS output,
      sum(cache_read_input_tokens)::bigint AS cache_read, sum(cache_write_input_tokens)::bigint AS cache_write,
      count(*) FILTER (WHERE attempt > 0 AND status = 'success') AS successes,
      count(*) FILTER (WHERE attempt > 0 AND status <> 'success') AS failures,
      coalesce(sum(extract(epoch FROM ended_at - started_at) * 1000) FILTER (WHERE output_tokens > 0 AND ended_at > started_at), 0)::bigint AS answer_ms`;
    const columns =
      "cost_nanos, input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens, successes, failures, answer_ms";
    const day = `(started_at AT TIME ZONE '${timeZone}')::date`;
    const wrong = await this.postgres.query(
      `WITH logged AS (
         SELECT ${day} AS day, '' AS scope, '' AS scope_id, ${facts}, ${sums} FROM spend_log GROUP BY ${day}, ${facts}
         UNION ALL
         SELECT ${day}, p.scope, p.scope_id, ${facts}, ${sums} FROM spend_log CROSS JOIN LATERAL (
           SELECT 'end_user', end_user WHERE end_user <> '' UNION SELECT 'tag', unnest(tags)) AS p (scope, scope_id)
         GROUP BY ${day}, p.scope, p.scope_id, ${facts}
       ), summed AS (
         SELECT day, '' AS scope, '' AS scope_id, ${facts}, ${columns} FROM daily_spend
         UNION ALL SELECT day, scope, scope_id, ${facts}, ${columns} FROM daily_party_spend
       )
       (TABLE logged EXCEPT ALL TABLE summed) UNION ALL (TABLE summed EXCEPT ALL TABLE logged)`,
    );
    assert.deepEqual(wrong, []);
  }
}

/** A provider attempt that cost `cost`. */
export function spend(keyId: string, cost: bigint, facts: Partial<SpendRecord> = {}): SpendRecord {
  return {
    callId: randomUUID(),
    attempt: 1,
    leaseId: undefined,
    reserved: cost,
    status: "success",
    usageEstimated: false,
    operation: "chat",
    modelGroup: "gpt",
    model: "gpt-4",
    provider: "openai",
    deploymentId: "d1",
    inputTokens: 10n,
    outputTokens: 20n,
    cacheReadInputTokens: 0n,
    cacheWriteInputTokens: 0n,
    reasoningOutputTokens: 0n,
    startedAt: new Date("2026-01-01T00:00:00Z"),
    endedAt: new Date("2026-01-01T00:00:01Z"),
    firstOutputAt: undefined,
    priceVersion: "test",
    endUser: "",
    tags: [],
    providerResponseId: "",
    traceId: "",
    budgetIds: [],
    cacheHit: false,
    ...facts,
    keyId,
    cost,
  };
}
