import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import fc from "fast-check";
import type { LeaseAsk } from "../../src/keyservice/loan.ts";
import { writeLeaseAnswer } from "../../src/keyservice/messages.ts";
import { MemoryBooks, type StoredBudget, Tables } from "../sim/memory-books.ts";
import { BooksStage, leaseTtlMs, spend } from "./books-stage.ts";

const startMs = Date.UTC(2027, 0, 31, 23, 59, 0);

/** What is done to both books alike. Keys, leases, requests and calls are named by small numbers, so that they meet again. */
type Step =
  | {
      readonly do: "acquire";
      readonly key: number;
      readonly lease: number;
      readonly request: number;
      readonly min: number;
      readonly ahead: number;
      readonly more: number;
      readonly parties: number;
    }
  | {
      readonly do: "settle";
      readonly records: readonly {
        readonly call: number;
        readonly key: number;
        readonly lease: number;
        readonly cost: number;
        readonly parties: number;
      }[];
    }
  | {
      readonly do: "return";
      readonly returns: readonly {
        readonly request: number;
        readonly lease: number;
        readonly amount: number;
        readonly close: boolean;
      }[];
    }
  | { readonly do: "renew"; readonly leases: readonly number[] }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "block" | "windows" | "expire"; readonly key: number };

const key = fc.nat(2);
const lease = fc.nat(7);
const request = fc.nat(5);
/** Bits: which of two tags a call names. */
const parties = fc.nat(3);
const amount = fc.integer({ min: 0, max: 400 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("acquire" as const),
      ...{ key, lease, request, parties },
      ...{ min: fc.integer({ min: 1, max: 400 }), more: fc.nat(300), ahead: fc.nat(300) },
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("settle" as const),
      records: fc.uniqueArray(fc.record({ call: fc.nat(30), key, lease, cost: amount, parties }), {
        ...{ minLength: 1, maxLength: 4 },
        selector: ({ call }) => call,
      }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("return" as const),
      returns: fc.uniqueArray(fc.record({ request: fc.nat(30), lease, amount, close: fc.boolean() }), {
        ...{ minLength: 1, maxLength: 3 },
        selector: (wish) => wish.request,
      }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("renew" as const), leases: fc.uniqueArray(lease) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 90_000 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom("block" as const, "windows" as const, "expire" as const), key }),
  },
);

/** Both books in one state, and names for what is in them. */
class Twins {
  readonly #stage: BooksStage;
  readonly #tables = new Tables();
  readonly #memory: MemoryBooks;
  readonly #ids = new Map<string, string>();
  readonly keys: string[] = [];
  readonly #tagBudgets: string[] = [];

  private constructor(stage: BooksStage) {
    this.#stage = stage;
    const { clock } = stage;
    this.#memory = new MemoryBooks({ tables: this.#tables, clock, leaseTtlMs, timeZone: "UTC" });
  }

  static async make(stage: BooksStage): Promise<Twins> {
    const twins = new Twins(stage);
    stage.nowMs = startMs;
    await twins.#addKey(1_000n, undefined);
    await twins.#addKey(800n, "1m");
    await twins.#addKey(undefined, "1d");
    await twins.#turnWindow(twins.#key(0));
    await twins.#joinTeam([twins.#key(1), twins.#key(2)], 1_500n);
    await twins.#addTag(600n, null);
    await twins.#addTag(900n, "10m");
    return twins;
  }

  /** Lets keys share a budget. */
  async #joinTeam(keyIds: readonly string[], max: bigint): Promise<void> {
    const team = randomUUID();
    await this.#stage.budget("team", team, max, null);
    await this.#stage.postgres.query("UPDATE keys SET team_id = $1 WHERE key_id = ANY ($2)", [team, keyIds]);
    for (const keyId of keyIds) await this.#readBudgets(keyId);
  }

  async #addTag(max: bigint, duration: string | null): Promise<void> {
    const tag = randomUUID();
    const budgetId = await this.#stage.budget("tag", tag, max, duration);
    const facts = {
      budget_id: budgetId,
      scope: "tag",
      scope_id: tag,
      model: null,
      max_nanos: max,
      duration,
      temp_until: null,
    };
    this.#tables.budgets.set(budgetId, { ...facts, removed_at: null });
    this.#tagBudgets.push(budgetId);
  }

  #partyBudgets(bits: number): string[] {
    return this.#tagBudgets.filter((_, index) => (bits >> index) % 2 === 1);
  }

  async #addKey(max: bigint | undefined, duration?: string): Promise<void> {
    const keyId = await this.#stage.key(max, duration);
    this.keys.push(keyId);
    const facts = {
      ...{ alias: undefined, userId: undefined, teamId: undefined, models: [], aliases: {}, tags: [] },
      ...{ organizationId: undefined, limits: [], rules: [], partyScopes: [] },
      ...{
        expiresAt: undefined,
        blocked: false,
        allowedRoutes: [],
        enforcedParams: [],
        routerSettings: undefined,
        allowedCacheControls: [],
        hidesContent: false,
      },
    };
    this.#tables.keys.set(keyId, { sha256: "", budgetIds: [], facts });
    await this.#readBudgets(keyId);
  }

  /** Gives a key a further window, or takes it away. */
  async #turnWindow(keyId: string): Promise<void> {
    const has = this.#tables.liveBudgetsOf(keyId).length > 1;
    await this.#stage.windows(keyId, ...(has ? [] : [{ duration: "10m", max: 700n }]));
    await this.#readBudgets(keyId);
  }

  /** Budgets are made and changed elsewhere; here they are only copied. */
  async #readBudgets(keyId: string): Promise<void> {
    const rows = await this.#stage.postgres.query<StoredBudget>(
      "SELECT budget_id, scope, scope_id, model, max_nanos, duration, removed_at, temp_until FROM key_budgets WHERE key_id = $1",
      [keyId],
    );
    for (const row of rows) this.#tables.budgets.set(row.budget_id, row);
    this.#tables.change(keyId, ({ budgetIds }) => {
      budgetIds.splice(0, budgetIds.length, ...rows.map(({ budget_id }) => budget_id));
    });
  }

  /** Does it to both. @returns the two answers. */
  async take(next: Step): Promise<[unknown, unknown]> {
    const { lender, leases, settlements } = this.#stage;
    const memory = this.#memory;
    switch (next.do) {
      case "acquire": {
        const ask: LeaseAsk = {
          ...{
            requestId: this.#id("request", 100 * next.lease + next.request),
            podId: "pod",
            leaseId: this.#id("lease", next.lease),
          },
          keyId: this.#key(next.key),
          budgetIds: this.#partyBudgets(next.parties),
          ...{ min: BigInt(next.min), want: BigInt(next.min + next.more), ahead: BigInt(next.ahead) },
        };
        return both(
          async () => writeLeaseAnswer(ask.leaseId, await lender.acquire(ask)),
          async () => writeLeaseAnswer(ask.leaseId, await memory.acquire(ask)),
        );
      }
      case "settle": {
        const records = next.records.map((record) =>
          spend(this.#key(record.key), BigInt(record.cost), {
            ...{
              callId: this.#id("call", record.call),
              leaseId: record.lease === 0 ? undefined : this.#id("lease", record.lease),
              budgetIds: this.#partyBudgets(record.parties),
            },
          }),
        );
        return both(
          () => settlements.settle("pod", records),
          () => memory.settle("pod", records),
        );
      }
      case "return": {
        const returns = next.returns.map((wish) => ({
          ...{ requestId: this.#id("return", wish.request), leaseId: this.#id("lease", wish.lease) },
          ...{ amount: BigInt(wish.amount), close: wish.close },
        }));
        return both(
          () => leases.giveBack(returns),
          () => memory.giveBack(returns),
        );
      }
      case "renew": {
        const ids = next.leases.map((name) => this.#id("lease", name));
        return both(
          () => leases.renew(ids),
          () => memory.renew(ids),
        );
      }
      case "expire": {
        const keyId = this.#key(next.key);
        return both(
          () => leases.expireDue(keyId),
          () => memory.expireDue(keyId),
        );
      }
      case "wait":
        this.#stage.nowMs = (this.#stage.nowMs ?? 0) + next.ms;
        return [undefined, undefined];
      case "block":
        return this.#block(this.#key(next.key));
      case "windows":
        await this.#turnWindow(this.#key(next.key));
        return [undefined, undefined];
    }
  }

  async #block(keyId: string): Promise<[unknown, unknown]> {
    await this.#stage.postgres.query("UPDATE keys SET blocked = NOT blocked WHERE key_id = $1", [keyId]);
    this.#tables.change(keyId, (stored) => {
      stored.facts = { ...stored.facts, blocked: !stored.facts.blocked };
    });
    return [undefined, undefined];
  }

  /** Everything that is in the one and in the other. */
  async contents(): Promise<[unknown, unknown]> {
    const { postgres } = this.#stage;
    const { keys } = this;
    const periods = await postgres.query(
      `SELECT p.budget_id, p.period_start AS start, p.spent_nanos AS spent, p.reserved_nanos AS reserved
       FROM budget_periods p WHERE (p.spent_nanos, p.reserved_nanos) <> (0, 0)
         AND budget_id IN (SELECT budget_id FROM key_budgets WHERE key_id = ANY ($1) UNION SELECT unnest($2::text[]))
       ORDER BY 1, 2`,
      [keys, this.#tagBudgets],
    );
    const leases = await postgres.query(
      `SELECT lease_id, coalesce(key_id, '') AS key_id, state, outstanding_nanos AS outstanding, corrections, expires_at, period_ends_at
       FROM leases WHERE lease_id = ANY ($1::uuid[]) ORDER BY 1`,
      [this.#idsOf("lease")],
    );
    const log = await postgres.query(
      `SELECT call_id, attempt, key_id, lease_id, cost_nanos AS cost, reserved_nanos AS reserved, status, pod_id, budget_ids
       FROM spend_log WHERE key_id = ANY ($1) ORDER BY 1, 2`,
      [keys],
    );
    return [{ periods, leases, log }, this.#memoryContents()];
  }

  #memoryContents(): unknown {
    const tables = this.#tables;
    const periods = [...tables.periods.values()]
      .filter(({ spent, reserved }) => spent !== 0n || reserved !== 0n)
      .map(({ budgetId, start, spent, reserved }) => ({ budget_id: budgetId, start, spent, reserved }))
      .sort((a, b) => compare(a.budget_id, b.budget_id) || a.start.getTime() - b.start.getTime());
    const leases = [...tables.leases.values()]
      .map(({ leaseId, keyId, state, outstanding, corrections, expiresAt, periodEndsAt }) => ({
        ...{ lease_id: leaseId, key_id: keyId, state, outstanding, corrections },
        ...{ expires_at: expiresAt, period_ends_at: periodEndsAt ?? null },
      }))
      .sort((a, b) => compare(a.lease_id, b.lease_id));
    const log = [...tables.spendLog.values()]
      .map(({ callId, attempt, keyId, leaseId, cost, reserved, status, podId, budgetIds }) => ({
        ...{
          call_id: callId,
          attempt,
          key_id: keyId,
          lease_id: leaseId ?? null,
          cost,
          reserved,
          status,
          pod_id: podId,
          budget_ids: budgetIds,
        },
      }))
      .sort((a, b) => compare(a.call_id, b.call_id) || a.attempt - b.attempt);
    return { periods, leases, log };
  }

  #key(index: number): string {
    return this.keys[index] ?? "";
  }

  #id(kind: string, name: number): string {
    const known = this.#ids.get(`${kind} ${name}`) ?? randomUUID();
    this.#ids.set(`${kind} ${name}`, known);
    return known;
  }

  #idsOf(kind: string): string[] {
    return [...this.#ids].flatMap(([name, id]) => (name.startsWith(`${kind} `) ? id : []));
  }
}

/** What each says, or how it fails. */
function both(one: () => Promise<unknown>, other: () => Promise<unknown>): Promise<[unknown, unknown]> {
  const said = (act: () => Promise<unknown>) =>
    act().catch((error) => ({ error: error.code ?? error.constraint ?? error.message }));
  return Promise.all([said(one), said(other)]);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

describe("the books in memory, which simulations run on, and those in Postgres", () => {
  let stage: BooksStage;
  before(async () => {
    stage = await BooksStage.open();
  });
  after(() => stage.close());

  it("give the same answers to anything, and come to hold the same", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 50 }), async (steps) => {
        const twins = await Twins.make(stage);
        for (const next of steps) {
          const [postgres, memory] = await twins.take(next);
          assert.deepEqual(memory, postgres, JSON.stringify(next));
        }
        const [postgres, memory] = await twins.contents();
        assert.deepEqual(memory, postgres);
      }),
      { numRuns: 50 },
    );
  });
});
