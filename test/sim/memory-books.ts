/** The KeyService's books in memory: the same rules as in Postgres over maps instead of tables. */

import type { Clock } from "../../src/clock.ts";
import { GatewayError } from "../../src/errors.ts";
import type { Grant, GrantedBudget, Party, PartyGrant } from "../../src/keyservice/grants.ts";
import {
  answerByBudgets,
  answerByLease,
  type BudgetRow,
  checkKey,
  type LeaseAnswer,
  type LeaseAsk,
} from "../../src/keyservice/loan.ts";
import {
  bookedRow,
  currentPeriod,
  type LeaseReturn,
  type LockedLease,
  nameOf,
  type PeriodKey,
  type Posting,
  postExpiry,
  postReturns,
  postSpend,
  type SpendTotal,
} from "../../src/keyservice/posting.ts";
import type { SpendRecord } from "../../src/keyservice/settlements.ts";
import type { Change } from "../../src/keyservice/watch-queue.ts";
import type { Nanos } from "../../src/money.ts";

/** A row of `keys`, and the grant its fields make. */
export interface StoredKey {
  facts: Omit<Grant, "budgets" | "version" | "keyId">;
  /** Hex. */
  sha256: string;
  readonly budgetIds: string[];
}

/** A row of `budgets`. */
export interface StoredBudget extends BudgetRow {
  readonly removed_at: Date | null;
}

/** A row of `budget_periods`. */
export interface StoredPeriod extends PeriodKey {
  spent: Nanos;
  reserved: Nanos;
}

/** A row of `leases` with those of `lease_periods`. */
export type StoredLease = { -readonly [Field in keyof LockedLease]: LockedLease[Field] };

/** A row of `spend_log`. */
export interface SpendRow {
  readonly callId: string;
  readonly attempt: number;
  readonly keyId: string;
  readonly podId: string;
  readonly leaseId: string | undefined;
  readonly cost: Nanos;
  readonly reserved: Nanos;
  readonly status: SpendRecord["status"] | "correction";
  readonly traceId: string;
  readonly budgetIds: readonly string[];
}

/** The tables. */
export class Tables {
  readonly keys = new Map<string, StoredKey>();
  readonly budgets = new Map<string, StoredBudget>();
  /** Budgets of tags, by the tag. */
  readonly tags = new Map<string, readonly string[]>();
  readonly periods = new Map<string, StoredPeriod>();
  readonly leases = new Map<string, StoredLease>();
  readonly requests = new Map<string, Nanos>();
  readonly spendLog = new Map<string, SpendRow>();
  readonly changes: Exclude<Change, { type: "reset" | "heartbeat" }>[] = [];
  version = 1n;
  /** Told when a key has changed. */
  onChange: () => void = () => {};
  /** Counts writes. */
  writes = 0;
  /** No statement is carried out. */
  away = false;

  /** Changes a key as an administrator would. */
  change(keyId: string, work: (key: StoredKey) => void): void {
    const key = this.keys.get(keyId);
    if (key === undefined) throw new Error(`no key ${keyId}`);
    work(key);
    this.version++;
    this.changes.push({ type: "key", version: this.version, keyId });
    this.onChange();
  }

  /** Tells that a tag's budgets have changed. */
  changeTag(id: string): void {
    this.version++;
    this.changes.push({ type: "entity", version: this.version, scope: "tag", id });
    this.onChange();
  }

  /** One snapshot of what holds for parties. */
  findParties(parties: readonly Party[]): { parties: PartyGrant[]; version: bigint } {
    this.check();
    const found = parties.map((party) => {
      const ids = party.scope === "tag" ? (this.tags.get(party.id) ?? []) : [];
      const budgets = ids.flatMap((id) => this.budgets.get(id) ?? []).map(grantedBudget);
      return { ...party, limits: [], budgets, models: [], blocked: false, region: "" };
    });
    return { parties: found, version: this.version };
  }

  /** One snapshot of what a key may do. */
  findGrant(sha256: string): Grant | undefined {
    this.check();
    for (const [keyId, key] of this.keys) {
      if (key.sha256 !== sha256) continue;
      const budgets = this.liveBudgetsOf(keyId).map(grantedBudget);
      return { ...key.facts, keyId, budgets, version: this.version };
    }
    return undefined;
  }

  /** Those that were removed, too. */
  budgetsOf(keyId: string): StoredBudget[] {
    return (this.keys.get(keyId)?.budgetIds ?? []).flatMap((id) => this.budgets.get(id) ?? []);
  }

  liveBudgetsOf(keyId: string): BudgetRow[] {
    return this.budgetsOf(keyId).filter(({ removed_at }) => removed_at === null);
  }

  /** A key's, and those that are named besides. */
  askedBudgets(keyId: string, budgetIds: readonly string[]): BudgetRow[] {
    const named = budgetIds.flatMap((id) => this.budgets.get(id) ?? []).filter(({ removed_at }) => removed_at === null);
    return [...new Set([...this.liveBudgetsOf(keyId), ...named])].sort((a, b) => (a.budget_id < b.budget_id ? -1 : 1));
  }

  period(key: PeriodKey): StoredPeriod {
    const name = nameOf(key);
    let row = this.periods.get(name);
    if (row === undefined) {
      row = { budgetId: key.budgetId, start: key.start, spent: 0n, reserved: 0n };
      this.periods.set(name, row);
    }
    return row;
  }

  check(): void {
    if (this.away) throw new GatewayError("keyservice_unavailable", "The KeyService cannot reach its books.");
  }
}

/** What new records of one key and lease cost, altogether and by the budgets they name. */
interface Total {
  readonly keyId: string;
  readonly leaseId: string | undefined;
  cost: Nanos;
  readonly named: Map<string, Nanos>;
}

function grantedBudget({ budget_id, scope, scope_id, max_nanos, duration, model }: BudgetRow): GrantedBudget {
  return { budgetId: budget_id, scope, scopeId: scope_id, max: max_nanos ?? undefined, duration, model };
}

/** What Lender, Leases and Settlements do, over tables in memory. Each step between two pauses is one transaction. */
export class MemoryBooks {
  readonly #tables: Tables;
  readonly #clock: Clock;
  readonly #leaseTtlMs: number;
  readonly #timeZone: string;
  readonly #pause: () => Promise<void> | undefined;

  /** @param parts `pause`: comes between the transactions of one request; others may come between, too. */
  constructor(parts: {
    tables: Tables;
    clock: Clock;
    leaseTtlMs: number;
    timeZone: string;
    pause?: () => Promise<void> | undefined;
  }) {
    this.#tables = parts.tables;
    this.#clock = parts.clock;
    this.#leaseTtlMs = parts.leaseTtlMs;
    this.#timeZone = parts.timeZone;
    this.#pause = parts.pause ?? (() => undefined);
  }

  async acquire(ask: LeaseAsk): Promise<LeaseAnswer> {
    const tables = this.#tables;
    tables.check();
    const before = this.#now();
    const key = tables.keys.get(ask.keyId);
    checkKey(
      key && {
        blocked: key.facts.blocked,
        expired: key.facts.expiresAt !== undefined && key.facts.expiresAt <= before,
      },
    );
    const rows = tables.askedBudgets(ask.keyId, ask.budgetIds);
    const budgets = rows.map((row) => ({ row, period: currentPeriod(row, before.getTime(), this.#timeZone) }));
    await this.#pause();
    const due = (lease: StoredLease) =>
      lease.keyId === ask.keyId && lease.state === "open" && lease.expiresAt <= before;
    if ([...tables.leases.values()].some(due)) await this.expireDue(ask.keyId);
    await this.#pause();
    tables.check();
    const now = this.#now();
    const known = tables.leases.get(ask.leaseId);
    if (known !== undefined) {
      const answer = answerByLease(ask, known, { before: tables.requests.get(ask.requestId), budgets, now });
      if (answer !== undefined) return answer;
    }
    const accounts = budgets.map(({ period }) => tables.period(period));
    const { answer, loan } = answerByBudgets(ask, { known, budgets, accounts, now, leaseTtlMs: this.#leaseTtlMs });
    if (loan === undefined) return answer;
    const { leaseId, keyId, podId, requestId } = ask;
    if (known === undefined) {
      const { state, outstanding } = loan.step.lease;
      const periods = budgets.map(({ period }) => ({
        budgetId: period.budgetId,
        start: period.start,
        forgiven: false,
      }));
      const { expiresAt, periodEndsAt } = loan;
      tables.leases.set(leaseId, {
        ...{ leaseId, keyId, podId, state, outstanding, expiresAt, periodEndsAt, periods },
        corrections: 0,
      });
    } else {
      known.outstanding = loan.step.lease.outstanding;
      known.expiresAt = loan.expiresAt;
    }
    for (const account of accounts) account.reserved += loan.step.reserved;
    tables.requests.set(requestId, loan.amount);
    tables.writes++;
    return answer;
  }

  async renew(leaseIds: readonly string[]): Promise<{ ttlMs: number; ended: string[] }> {
    this.#tables.check();
    const now = this.#now();
    const expiresAt = new Date(now.getTime() + this.#leaseTtlMs);
    const ended = leaseIds.filter((id) => {
      const lease = this.#tables.leases.get(id);
      if (lease === undefined || lease.state !== "open" || lease.expiresAt <= now) return true;
      if (lease.expiresAt < expiresAt) lease.expiresAt = expiresAt;
      return lease.periodEndsAt !== undefined && lease.periodEndsAt <= now;
    });
    return { ttlMs: this.#leaseTtlMs, ended };
  }

  async giveBack(returns: readonly LeaseReturn[]): Promise<void> {
    const tables = this.#tables;
    tables.check();
    const fresh = [...new Map(returns.map((wish) => [wish.requestId, wish])).values()].filter(
      ({ requestId }) => !tables.requests.has(requestId),
    );
    for (const { requestId, amount } of fresh) tables.requests.set(requestId, amount);
    for (const { leaseId, close } of returns) if (close) this.#closeUnopened(leaseId);
    this.#post(postReturns(this.#locked(returns.map(({ leaseId }) => leaseId)), fresh));
  }

  #closeUnopened(leaseId: string): void {
    const { leases } = this.#tables;
    if (leases.has(leaseId)) return;
    const money = { state: "closed", outstanding: 0n, corrections: 0 } as const;
    const times = { expiresAt: this.#now(), periodEndsAt: undefined };
    leases.set(leaseId, { leaseId, keyId: "", podId: "", ...money, ...times, periods: [] });
  }

  async expireDue(keyId?: string): Promise<{ count: number; more: boolean }> {
    this.#tables.check();
    const now = this.#now();
    const due = [...this.#tables.leases.values()].filter(
      (lease) => lease.state === "open" && lease.expiresAt <= now && (keyId === undefined || lease.keyId === keyId),
    );
    if (due.length > 0) this.#post(postExpiry(due));
    return { count: due.length, more: false };
  }

  async settle(podId: string, records: readonly SpendRecord[]): Promise<number> {
    const tables = this.#tables;
    tables.check();
    const totals = new Map<string, Total>();
    let fresh = 0;
    for (const record of records) {
      const { callId, attempt, keyId, leaseId, cost, budgetIds } = record;
      const name = `${callId}/${attempt}`;
      if (tables.spendLog.has(name)) continue;
      fresh++;
      const { reserved, status, traceId } = record;
      tables.spendLog.set(name, { callId, attempt, keyId, podId, leaseId, cost, reserved, status, traceId, budgetIds });
      const total = totals.get(`${keyId} ${leaseId}`) ?? { keyId, leaseId, cost: 0n, named: new Map() };
      totals.set(`${keyId} ${leaseId}`, total);
      total.cost += cost;
      for (const id of budgetIds) total.named.set(id, (total.named.get(id) ?? 0n) + cost);
    }
    const leases = this.#locked(records.flatMap(({ leaseId }) => leaseId ?? []));
    const byId = new Map(leases.map((lease) => [lease.leaseId, lease]));
    this.#post(
      postSpend(
        [...totals.values()].map((total) => this.#charge(total)),
        byId,
        this.#now().getTime(),
        this.#timeZone,
      ),
    );
    return records.length - fresh;
  }

  #charge({ keyId, leaseId, cost, named }: Total): SpendTotal {
    const own = this.#tables.budgetsOf(keyId).map((budget) => ({ ...budget, cost }));
    const others = [...named].flatMap(([id, part]) => {
      const budget = this.#tables.budgets.get(id);
      return budget === undefined ? [] : { ...budget, cost: part };
    });
    return { keyId, leaseId, cost, budgets: [...own, ...others] };
  }

  #locked(ids: readonly string[]): StoredLease[] {
    return [...new Set(ids)].flatMap((id) => this.#tables.leases.get(id) ?? []);
  }

  #post(posting: Posting): void {
    const tables = this.#tables;
    for (const { period, spent, reserved } of posting.moves) {
      const row = tables.period(period);
      row.spent += spent;
      row.reserved += reserved;
      if (row.reserved < 0n) throw new Error(`budget_periods_reserved_nanos_check: ${row.budgetId}`);
    }
    for (const { lease, step } of posting.steps) {
      const { keyId, podId, leaseId } = lease;
      const row = bookedRow(lease, step);
      if (row !== undefined) {
        const { attempt, cost } = row;
        const status = attempt === 0 ? "unconfirmed" : "correction";
        const reserved = cost > 0n ? cost : 0n;
        const ids = { callId: leaseId, attempt, keyId, podId, leaseId };
        const budgetIds = lease.periods
          .map(({ budgetId }) => budgetId)
          .filter((id) => tables.budgets.get(id)?.scope === "tag")
          .sort();
        const entry = { ...ids, cost, reserved, status, traceId: "", budgetIds } as const;
        tables.spendLog.set(`${leaseId}/${attempt}`, entry);
      }
      const stored = tables.leases.get(leaseId);
      if (stored === undefined) throw new Error(`no lease ${leaseId}`);
      stored.state = step.lease.state;
      stored.outstanding = step.lease.outstanding;
      if (step.booked < 0n) stored.corrections++;
    }
    tables.writes++;
  }

  #now(): Date {
    return new Date(this.#clock.nowMs());
  }
}
