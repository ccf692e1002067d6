import type { Clock } from "../clock.ts";
import type { Leases } from "./leases.ts";
import type { Queryable } from "./postgres.ts";
import type { SpendLogParts } from "./spend-log-parts.ts";

/** What a Sweeper is made of. */
export interface SweeperParts {
  readonly leases: Pick<Leases, "expireDue">;
  readonly books: Queryable;
  readonly spendLog: Pick<SpendLogParts, "make" | "drop">;
  readonly clock: Clock;
  /** How often leases that ran out are looked for, in milliseconds. */
  readonly intervalMs: number;
  /** Told when a sweep could not be done. It is tried again in time. */
  readonly onError: (error: unknown) => void;
}

/** How often what nobody asks for any more is removed, in milliseconds. */
const tidyMs = 60_000;

/** Each bounded, so that none holds up anything; what is left over goes next time. Ages are by the database's clock. */
const tidySql = [
  // A sidecar that has been away for longer is told to forget everything.
  `DELETE FROM changes WHERE version IN (
     SELECT version FROM changes
     WHERE changed_at < now() - interval '24 hours' OR version <= (SELECT version FROM revision) - 100000
     ORDER BY version LIMIT 5000)`,
  // No pod repeats an ask that is a day old.
  `DELETE FROM lease_requests WHERE request_id IN (
     SELECT request_id FROM lease_requests WHERE done_at < now() - interval '24 hours' ORDER BY done_at LIMIT 5000)`,
  // A secret whose grace is over is told so for a day; then it is unknown.
  `DELETE FROM former_secrets WHERE secret_hmac IN (
     SELECT secret_hmac FROM former_secrets WHERE ends_at < now() - interval '24 hours' ORDER BY ends_at LIMIT 1000)`,
  // A journal that turns up later than this is booked in the period of that day.
  `DELETE FROM leases WHERE lease_id IN (
     SELECT lease_id FROM leases WHERE state <> 'open' AND expires_at < now() - interval '30 days'
     ORDER BY lease_id LIMIT 1000 FOR UPDATE SKIP LOCKED)`,
  // What was told in a window of time or a period that is long over. A budget without periods is told of once and for all.
  `DELETE FROM alerts WHERE alert_id IN (
     SELECT alert_id FROM alerts
     WHERE next_attempt_at IS NULL AND created_at < now() - CASE budget_id WHEN '' THEN interval '30 days' ELSE interval '3 years' END
       AND (budget_id = '' OR duration IS NOT NULL)
     ORDER BY alert_id LIMIT 5000 FOR UPDATE SKIP LOCKED)`,
];

/** Charges leases that ran out, and removes what is old. Every replica has one; they do not get in each other's way. */
export class Sweeper {
  readonly #parts: SweeperParts;
  #tidyAtMs = 0;
  #cancel = () => {};
  #sweeping: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(parts: SweeperParts) {
    this.#parts = parts;
  }

  start(): void {
    if (this.#closed) return;
    this.#cancel = this.#parts.clock.after(this.#parts.intervalMs, () => {
      this.#sweeping = this.#sweep()
        .catch((error) => this.#parts.onError(error))
        .then(() => this.start());
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    await this.#sweeping;
  }

  async #sweep(): Promise<void> {
    const { leases, books, clock, spendLog } = this.#parts;
    for (let more = true; more && !this.#closed; ) ({ more } = await leases.expireDue());
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#tidyAtMs < tidyMs) return;
    this.#tidyAtMs = nowMs;
    for (const sql of tidySql) await books.query(sql);
    await spendLog.make();
    await spendLog.drop();
  }
}
