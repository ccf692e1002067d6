/** What must hold, at every step and at rest: P1 to P8 of the design, with the provider's own bill as the last word. */

import { currentPeriod } from "../../src/keyservice/posting.ts";
import type { Replica } from "./key-service.ts";
import type { SpendRow, Tables } from "./memory-books.ts";
import type { Call, PodProcess } from "./pod.ts";
import type { Bills } from "./provider.ts";
import { epochMs } from "./world.ts";

/** Holds the books, the pods and the provider's bills against each other. */
export class Invariants {
  readonly #tables: Tables;
  readonly #bills: Bills;
  readonly #calls: readonly Call[];
  #writesSeen = 0;
  #rowsSeen = 0;
  /** Booked so far, by key. */
  readonly #booked = new Map<string, bigint>();
  /** The same, by budgets that rows name. */
  readonly #bookedByName = new Map<string, bigint>();
  /** What rows cost beyond what was reserved for them, all together. */
  #beyond = 0n;
  /** Charged to a budget that came when the money was lent already, by budget. */
  readonly #outside = new Map<string, bigint>();
  /** The highest limit a budget ever had. */
  readonly #highest = new Map<string, bigint>();
  /** What all processes together may have overspent on one key, as long as nothing of it was booked. */
  #overdraft = 0n;
  /** Booked without a lease, by key. */
  readonly #overdrawn = new Map<string, bigint>();
  /** Calls of which the books may know nothing, because a disk was lost. */
  readonly #excused = new Set<Call>();
  /** Those of them whose cost nothing else makes up for. */
  readonly #uncovered = new Set<Call>();
  readonly #badDisks = new Set<number>();
  #lossy = false;

  readonly #clocksAgree: boolean;

  constructor(parts: { tables: Tables; bills: Bills; calls: readonly Call[]; clocksAgree: boolean }) {
    this.#clocksAgree = parts.clocksAgree;
    this.#tables = parts.tables;
    this.#bills = parts.bills;
    this.#calls = parts.calls;
  }

  /** A budget's limit is changed from `max`. */
  noteMax(budgetId: string, max: bigint): void {
    const before = this.#highest.get(budgetId) ?? 0n;
    if (max > before) this.#highest.set(budgetId, max);
  }

  /** A pod's journal could not be written or synced for a while. */
  noteBadDisk(pod: number): void {
    this.#badDisks.add(pod);
  }

  /** A process has started that may overspend so much on each key while it does not hear the KeyService. */
  noteOverdraft(max: bigint): void {
    this.#overdraft += max;
  }

  /**
   * What a pod has written in the last `ms` is lost.
   *
   * @param covered whether its leases are lost with it: then they are charged in full, which covers what their calls cost.
   */
  excuse(pod: number, lostMs: number, nowMs: number, covered: boolean): void {
    if (lostMs === 0) return;
    // On a disk that had failed to sync nobody knows since when.
    const ms = this.#badDisks.has(pod) ? Number.POSITIVE_INFINITY : lostMs;
    this.#lossy = true;
    for (const call of this.#calls) {
      if (call.pod !== pod) continue;
      if (call.outcome !== undefined && call.outcome !== "died" && nowMs - call.endedMs > ms) continue;
      this.#excused.add(call);
      if (!covered) this.#uncovered.add(call);
    }
  }

  /** After every step: P1, P2, P3, P5, P6 of what the books say. */
  afterStep(): void {
    const tables = this.#tables;
    if (tables.writes === this.#writesSeen) return;
    this.#writesSeen = tables.writes;
    this.#readNewRows();
    const spentBy = new Map<string, bigint>();
    for (const { budgetId, spent, reserved } of tables.periods.values()) {
      check(spent >= 0n && reserved >= 0n, "P6", () => `${budgetId}: spent ${spent}, reserved ${reserved}`);
      spentBy.set(budgetId, (spentBy.get(budgetId) ?? 0n) + spent);
      const max = tables.budgets.get(budgetId)?.max_nanos ?? undefined;
      if (max === undefined) continue;
      const highest = this.#highest.get(budgetId) ?? 0n;
      const limit = (highest > max ? highest : max) + this.#beyond + (this.#outside.get(budgetId) ?? 0n);
      check(spent + reserved <= limit, "P1", () => `${budgetId}: spent ${spent} + reserved ${reserved} > ${limit}`);
    }
    this.#holdToBills();
    const bookedBy = new Map<string, bigint>();
    for (const [keyId, { budgetIds }] of tables.keys) {
      for (const id of budgetIds) bookedBy.set(id, (bookedBy.get(id) ?? 0n) + (this.#booked.get(keyId) ?? 0n));
    }
    for (const ids of tables.tags.values()) {
      for (const id of ids) bookedBy.set(id, this.#bookedByName.get(id) ?? 0n);
    }
    for (const [budgetId, booked] of bookedBy) {
      // What was booked before a key had the budget is not in it.
      if (budgetId.endsWith("_late")) continue;
      const spent = spentBy.get(budgetId) ?? 0n;
      check(spent === booked, "P3", () => `${budgetId}: spent ${spent}, in the log ${booked}`);
    }
    for (const lease of tables.leases.values()) {
      check(lease.outstanding >= 0n, "P6", () => `lease ${lease.leaseId} has ${lease.outstanding} outstanding`);
    }
  }

  /** P1 in the provider's eyes: what it charges never exceeds a budget that does not begin anew. */
  #holdToBills(): void {
    for (const [budgetId, { max_nanos, duration }] of this.#tables.budgets) {
      if (max_nanos === null || duration !== null) continue;
      const calls = this.#calls.filter(
        ({ keyId, request }) =>
          this.#tables.keys.get(keyId)?.budgetIds.includes(budgetId) === true ||
          request.tags.some((tag) => this.#tables.tags.get(tag)?.includes(budgetId)),
      );
      const { nanos, beyond } = this.#bills.total(calls);
      const lost = this.#bills.total(calls.filter((call) => this.#uncovered.has(call))).nanos;
      const highest = this.#highest.get(budgetId) ?? 0n;
      // A budget that came late does not pay for what was under way.
      if (budgetId.endsWith("_late")) continue;
      const keys = [...new Set(calls.map(({ keyId }) => keyId))];
      const overdrawn = keys.reduce((sum, keyId) => sum + this.#overdraft + (this.#overdrawn.get(keyId) ?? 0n), 0n);
      const limit = (highest > max_nanos ? highest : max_nanos) + beyond + lost + overdrawn;
      check(nanos <= limit, "P1", () => `${budgetId}: the provider charges ${nanos} > ${limit}`);
    }
  }

  #readNewRows(): void {
    const { spendLog } = this.#tables;
    if (spendLog.size === this.#rowsSeen) return;
    let skip = this.#rowsSeen;
    for (const row of spendLog.values()) {
      if (skip-- > 0) continue;
      this.#booked.set(row.keyId, (this.#booked.get(row.keyId) ?? 0n) + row.cost);
      for (const id of row.budgetIds) this.#bookedByName.set(id, (this.#bookedByName.get(id) ?? 0n) + row.cost);
      this.#noteOutside(row);
      if (this.#clocksAgree) this.#checkPeriod(row);
      if (row.status === "unconfirmed" && this.#isForgotten(row)) this.#beyond += row.cost;
      if (row.attempt >= 1 && row.leaseId === undefined && this.#overdraft > 0n) {
        this.#beyond += row.cost;
        this.#overdrawn.set(row.keyId, (this.#overdrawn.get(row.keyId) ?? 0n) + row.cost);
      }
      if (row.attempt < 1 || row.leaseId === undefined || row.cost <= row.reserved) continue;
      const { beyond } = this.#bills.of(row.traceId);
      check(beyond > 0n, "P5", () => `${row.traceId} cost ${row.cost}, reserved ${row.reserved}`);
      this.#beyond += row.cost - row.reserved;
    }
    this.#rowsSeen = spendLog.size;
  }

  /** P7: a call is charged to no period that was over when it began. */
  #checkPeriod({ leaseId, traceId }: SpendRow): void {
    const endsAt = this.#tables.leases.get(leaseId ?? "")?.periodEndsAt;
    const call = this.#calls.find(({ name }) => name === traceId);
    if (endsAt === undefined || call === undefined) return;
    check(epochMs + call.startedMs <= endsAt.getTime(), "P7", () => `${traceId} is charged to a period that was over`);
  }

  #noteOutside({ keyId, leaseId, cost, attempt }: SpendRow): void {
    const late = this.#tables.keys.get(keyId)?.budgetIds.find((id) => id.endsWith("_late"));
    if (late === undefined || attempt < 1) return;
    const bound = this.#tables.leases.get(leaseId ?? "")?.periods.some(({ budgetId }) => budgetId === late);
    if (bound !== true) this.#outside.set(late, (this.#outside.get(late) ?? 0n) + cost);
  }

  /**
   * Whether the end of an attempt may have been known and was lost with a disk: what of its reservation was given back by then is
   * charged all the same.
   */
  #isForgotten({ traceId }: SpendRow): boolean {
    const call = this.#calls.find(({ name }) => name === traceId);
    return call !== undefined && (this.#excused.has(call) || this.#badDisks.has(call.pod));
  }

  /** When nothing happens any more and nothing is wrong: P3, P4, and every call's place in the books. */
  atRest(processes: readonly PodProcess[], podCount: number): void {
    check(processes.length === podCount, "liveness", () => `${podCount - processes.length} pods are not up`);
    for (const call of this.#calls) check(call.outcome !== undefined, "liveness", () => `${call.name} hangs`);
    for (const { index, leases, journal } of processes) {
      const { leases: count, room, reserved, waiting } = leases.stats();
      const rest = count === 0 && room === 0n && reserved === 0n && waiting === 0;
      check(
        rest,
        "P4",
        () => `pod${index} has ${count} leases, ${room} room, ${reserved} reserved, ${waiting} waiting`,
      );
      check(journal.pendingCount === 0, "P4", () => `pod${index} has ${journal.pendingCount} records to book`);
    }
    for (const { budgetId, reserved } of this.#tables.periods.values()) {
      check(reserved === 0n, "P4", () => `${budgetId} has ${reserved} reserved`);
    }
    for (const lease of this.#tables.leases.values()) {
      check(lease.state !== "open", "P4", () => `lease ${lease.leaseId} is open`);
      const charged = lease.state === "expired" ? lease.outstanding : 0n;
      check(charged === 0n || this.#lossy, "no phantom charge", () => `lease ${lease.leaseId} is charged ${charged}`);
    }
    this.#compareBills();
  }

  #compareBills(): void {
    const rowsOf = Map.groupBy(this.#tables.spendLog.values(), ({ traceId }) => traceId);
    const gaps = new Map<string, bigint>();
    for (const call of this.#calls) {
      const bill = this.#bills.of(call.name).nanos;
      const rows = rowsOf.get(call.name) ?? [];
      const booked = sum(rows);
      // What the provider took beyond what was allowed is known only from its own answer.
      const gap = this.#excused.has(call) ? bill : this.#compareBill(call, rows, bill, booked);
      if (bill > booked) gaps.set(call.keyId, (gaps.get(call.keyId) ?? 0n) + least(gap, bill - booked));
    }
    for (const [keyId, booked] of this.#booked) {
      const bill = this.#calls.reduce(
        (total, call) => total + (call.keyId === keyId ? this.#bills.of(call.name).nanos : 0n),
        0n,
      );
      const gap = gaps.get(keyId) ?? 0n;
      check(booked + gap >= bill, "ledger and bill", () => `${keyId} is billed ${bill} and booked ${booked}`);
    }
  }

  /** @returns how much more than is booked the provider may have charged. */
  #compareBill(call: Call, rows: readonly SpendRow[], bill: bigint, booked: bigint): bigint {
    const unconfirmed = rows.filter(({ status }) => status === "unconfirmed");
    const mayDiffer = call.outcome === "died" || this.#badDisks.has(call.pod);
    const says = () => `${call.name} (${call.outcome}) is billed ${bill} and booked ${booked}`;
    check(unconfirmed.length === 0 || mayDiffer, "unconfirmed without reason", says);
    if (unconfirmed.length === 0) {
      check(bill === booked, "ledger and bill", says);
      check(
        call.cost === undefined || call.outcome !== "settled" || rows.some(({ cost }) => cost === call.cost),
        "told and booked",
        says,
      );
      return 0n;
    }
    const { beyond } = this.#bills.of(call.name);
    check(bill <= booked + beyond, "ledger and bill", says);
    check(booked - bill <= sum(unconfirmed), "ledger and bill", says);
    return beyond;
  }

  /** What the budgets of a key's calls have left, of those that name tags, by the last replica's clock; undefined: there is no limit. */
  roomOf(keyId: string, tags: readonly string[], replicas: readonly Replica[]): bigint | undefined {
    let least: bigint | undefined;
    const named = tags.flatMap((tag) => this.#tables.tags.get(tag) ?? []);
    for (const budget of this.#tables.askedBudgets(keyId, named)) {
      if (budget.max_nanos === null) continue;
      for (const { clock } of replicas) {
        const { spent, reserved } = this.#tables.period(currentPeriod(budget, clock.nowMs(), "UTC"));
        const room = budget.max_nanos - spent - reserved;
        if (least === undefined || room < least) least = room;
      }
    }
    return least;
  }
}

function sum(rows: readonly SpendRow[]): bigint {
  return rows.reduce((total, { cost }) => total + cost, 0n);
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function check(holds: boolean, name: string, says: () => string): void {
  if (!holds) throw new Error(`${name}: ${says()}`);
}
