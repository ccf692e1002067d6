import type { Clock } from "../../src/clock.ts";
import {
  type Authority,
  AuthorityRejected,
  AuthorityUnavailable,
  type Budget,
  type Grant,
  type KeyChange,
  type LeaseAnswer,
  type LeaseAsk,
  type LeaseReturn,
  type Party,
  type PartyGrant,
  type SpendRecord,
} from "../../src/keys/authority.ts";
import { grant } from "../../src/keyservice/ledger.ts";
import type { Nanos } from "../../src/money.ts";

interface PaperLease {
  readonly budgetId: string;
  state: "open" | "expired" | "closed";
  outstanding: Nanos;
  expiresAtMs: number;
}

/** How the paper KeyService misbehaves. */
export interface Trouble {
  /** Requests do not arrive. */
  away: boolean;
  /** Requests are carried out and their answers are lost. */
  mute: boolean;
}

/** The KeyService's promises kept on paper: the books in memory, time by a given clock, and trouble on demand. */
export class PaperAuthority implements Authority {
  readonly trouble: Trouble = { away: false, mute: false };
  readonly ttlMs: number;
  readonly latencyMs: number;
  readonly grants = new Map<string, Grant>();
  readonly budgets = new Map<string, { max: Nanos | undefined; spent: Nanos; reserved: Nanos }>();
  /** By scope and id. */
  readonly parties = new Map<string, Partial<PartyGrant>>();
  /** Budgets without any room, by id. */
  readonly exhausted = new Map<string, Budget>();
  partyCount = 0;
  readonly leases = new Map<string, PaperLease>();
  /** By call and attempt. */
  readonly booked = new Map<string, SpendRecord>();
  readonly asks: LeaseAsk[] = [];
  readonly renewals: (readonly string[])[] = [];
  /** Ids of leases that were closed, known ones and others. */
  readonly closed: string[] = [];
  resolveCount = 0;
  settleCount = 0;
  version = 1n;
  /** Records the service calls invalid. */
  isPoison: (record: SpendRecord) => boolean = () => false;
  periodEndsAtMs: number | undefined = undefined;
  /** Told of a budget that refuses, before the refused ask is looked at once more. */
  readonly recallers = new Set<(budgetId: string) => void>();
  readonly #clock: Clock;
  readonly #answered = new Map<string, Nanos>();
  readonly #returned = new Set<string>();
  readonly #watchers = new Set<(change: KeyChange) => void>();
  readonly #history: KeyChange[] = [];

  constructor(parts: { clock: Clock; ttlMs?: number; latencyMs?: number }) {
    this.#clock = parts.clock;
    this.ttlMs = parts.ttlMs ?? 60_000;
    this.latencyMs = parts.latencyMs ?? 5;
  }

  async #exchange<Answer>(act: () => Answer): Promise<Answer> {
    await this.#delay();
    if (this.trouble.away) throw new AuthorityUnavailable(new Error("away"));
    this.#expireLeases();
    const answer = act();
    await this.#delay();
    if (this.trouble.mute) throw new AuthorityUnavailable(new Error("answer lost"));
    return answer;
  }

  #delay(): Promise<void> {
    return new Promise((resolve) => this.#clock.after(this.latencyMs / 2, resolve));
  }

  resolve(keySha256: Buffer): Promise<Grant | undefined> {
    this.resolveCount++;
    return this.#exchange(() => {
      const grant = this.grants.get(keySha256.toString("hex"));
      return grant && { ...grant, version: this.version };
    });
  }

  resolveParties(parties: readonly Party[]): Promise<{ parties: readonly PartyGrant[]; version: bigint }> {
    this.partyCount += parties.length;
    return this.#exchange(() => ({
      parties: parties.map((party) => {
        const known = this.parties.get(`${party.scope} ${party.id}`);
        return { ...party, limits: [], budgets: [], models: [], blocked: false, ...known };
      }),
      version: this.version,
    }));
  }

  async acquire(ask: LeaseAsk): Promise<LeaseAnswer> {
    this.asks.push(ask);
    const answer = await this.#exchange(() => this.#acquire(ask));
    if (answer.outcome !== "refused" || ask.ahead >= ask.want || this.recallers.size === 0) return answer;
    for (const recall of this.recallers) recall(answer.refusal.budget.budgetId);
    await new Promise<void>((resolve) => this.#clock.after(20, resolve));
    return this.#exchange(() => this.#acquire(ask));
  }

  #acquire(ask: LeaseAsk): LeaseAnswer {
    const budget = this.budgets.get(ask.keyId);
    if (budget === undefined) throw new AuthorityRejected(new Error("no such key"));
    const periodEndsMs =
      this.periodEndsAtMs === undefined ? undefined : this.periodEndsAtMs - this.#clock.monotonicMs();
    const known = this.leases.get(ask.leaseId);
    const repeated = this.#answered.get(ask.requestId);
    if (known !== undefined && known.state !== "open") return { outcome: "ended" };
    if (repeated !== undefined) {
      return { outcome: "granted", lease: { granted: repeated, ttlMs: this.ttlMs, periodEndsMs } };
    }
    const empty = ask.budgetIds.map((id) => this.exhausted.get(id)).find((found) => found !== undefined);
    if (empty !== undefined) {
      const refusal = { budget: empty, spent: empty.max ?? 0n, reserved: 0n, resetsAtMs: undefined };
      return { outcome: "refused", refusal };
    }
    const verdict = grant([budget], ask, known?.outstanding ?? 0n);
    if ("refusedBy" in verdict) {
      const { keyId } = ask;
      const refused: Budget = { budgetId: keyId, scope: "key", scopeId: keyId, window: undefined, max: budget.max };
      const { spent, reserved } = budget;
      return { outcome: "refused", refusal: { budget: refused, spent, reserved, resetsAtMs: undefined } };
    }
    const { granted } = verdict;
    const expiresAtMs = this.#clock.monotonicMs() + this.ttlMs;
    const lease = known ?? { budgetId: ask.keyId, state: "open", outstanding: 0n, expiresAtMs };
    lease.outstanding += granted;
    lease.expiresAtMs = expiresAtMs;
    budget.reserved += granted;
    this.leases.set(ask.leaseId, lease);
    this.#answered.set(ask.requestId, granted);
    return { outcome: "granted", lease: { granted, ttlMs: this.ttlMs, periodEndsMs } };
  }

  renew(leaseIds: readonly string[]): Promise<{ ttlMs: number; ended: readonly string[] }> {
    this.renewals.push(leaseIds);
    return this.#exchange(() => {
      const ended = leaseIds.filter((id) => this.leases.get(id)?.state !== "open");
      for (const id of leaseIds) {
        const lease = this.leases.get(id);
        if (lease?.state === "open") lease.expiresAtMs = this.#clock.monotonicMs() + this.ttlMs;
      }
      return { ttlMs: this.ttlMs, ended };
    });
  }

  giveBack(returns: readonly LeaseReturn[]): Promise<void> {
    return this.#exchange(() => {
      for (const { requestId, leaseId, amount, close } of returns) {
        const lease = this.leases.get(leaseId);
        if (close) this.closed.push(leaseId);
        if (lease === undefined || lease.state === "closed" || this.#returned.has(requestId)) continue;
        this.#returned.add(requestId);
        const back = close || amount > lease.outstanding ? lease.outstanding : amount;
        lease.outstanding -= back;
        const budget = this.#budget(lease);
        if (lease.state === "open") budget.reserved -= back;
        else budget.spent -= back;
        if (close) lease.state = "closed";
      }
    });
  }

  settle(records: readonly SpendRecord[]): Promise<void> {
    this.settleCount++;
    return this.#exchange(() => {
      if (records.some(this.isPoison)) throw new AuthorityRejected(new Error("invalid record"));
      for (const record of records) {
        const key = `${record.callId}/${record.attempt}`;
        if (this.booked.has(key)) continue;
        this.booked.set(key, record);
        const lease = this.leases.get(record.leaseId);
        const budget = lease === undefined ? this.budgets.get(record.keyId) : this.#budget(lease);
        if (budget === undefined) continue;
        budget.spent += record.cost;
        if (lease === undefined || lease.state === "closed") continue;
        let covered = record.cost;
        if (covered > lease.outstanding) covered = lease.outstanding;
        lease.outstanding -= covered;
        if (lease.state === "open") budget.reserved -= covered;
        else budget.spent -= covered;
      }
    });
  }

  async *watch(sinceVersion: bigint, signal: AbortSignal): AsyncIterable<KeyChange> {
    if (this.trouble.away) throw new AuthorityUnavailable(new Error("away"));
    const queue: KeyChange[] = this.#history.filter((change) => sinceVersion > 0n && change.version > sinceVersion);
    queue.push({ type: "heartbeat", version: this.version });
    let wake = () => {};
    const watcher = (change: KeyChange) => {
      queue.push(change);
      wake();
    };
    this.#watchers.add(watcher);
    const stop = () => wake();
    signal.addEventListener("abort", stop);
    try {
      while (!signal.aborted) {
        if (this.trouble.away) throw new AuthorityUnavailable(new Error("cut"));
        const change = queue.shift();
        if (change !== undefined) yield change;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      this.#watchers.delete(watcher);
      signal.removeEventListener("abort", stop);
    }
  }

  /** Changes a key and tells everybody who listens. */
  change(keyId: string): void {
    this.version++;
    this.push({ type: "key", keyId, version: this.version });
  }

  /** Pushes anything. */
  push(change: KeyChange): void {
    if (change.type !== "heartbeat") this.#history.push(change);
    for (const watcher of this.#watchers) watcher(change);
  }

  /** Cuts all watches. */
  cut(): void {
    this.trouble.away = true;
    for (const watcher of this.#watchers) watcher({ type: "heartbeat", version: this.version });
  }

  async close(): Promise<void> {}

  #budget(lease: PaperLease): { max: Nanos | undefined; spent: Nanos; reserved: Nanos } {
    const budget = this.budgets.get(lease.budgetId);
    if (budget === undefined) throw new Error("a lease without budget");
    return budget;
  }

  #expireLeases(): void {
    for (const lease of this.leases.values()) {
      if (lease.state !== "open" || this.#clock.monotonicMs() < lease.expiresAtMs) continue;
      lease.state = "expired";
      const budget = this.#budget(lease);
      budget.reserved -= lease.outstanding;
      budget.spent += lease.outstanding;
    }
  }
}
