import type { Clock } from "../clock.ts";
import { lockLeases, post } from "./books.ts";
import type { Postgres, Queryable } from "./postgres.ts";
import { type LeaseReturn, postExpiry, postReturns } from "./posting.ts";

/** What Leases is made of. */
export interface LeasesParts {
  readonly postgres: Postgres;
  readonly clock: Clock;
  /** How long a lease lives without renewal, in milliseconds. */
  readonly leaseTtlMs: number;
  /** The zone whose days spend is added up by, an IANA name. */
  readonly timeZone: string;
}

/** How many leases one transaction charges. */
const expireMax = 200;

/** Leases from their first day to their last; Lender opens them. Every method throws what Postgres throws. */
export class Leases {
  readonly #postgres: Postgres;
  readonly #clock: Clock;
  readonly #leaseTtlMs: number;
  readonly #timeZone: string;

  constructor({ postgres, clock, leaseTtlMs, timeZone }: LeasesParts) {
    this.#postgres = postgres;
    this.#clock = clock;
    this.#leaseTtlMs = leaseTtlMs;
    this.#timeZone = timeZone;
  }

  /**
   * Keeps leases alive.
   *
   * @returns those that had ended before. A lease whose period is over is among them, and is kept for its calls in flight.
   */
  async renew(leaseIds: readonly string[]): Promise<{ ttlMs: number; ended: string[] }> {
    const now = this.#now();
    const rows = await this.#postgres.query<{ lease_id: string }>(
      `WITH alive AS (
         SELECT lease_id FROM leases WHERE lease_id = ANY ($1::uuid[]) AND state = 'open' AND expires_at > $2
         ORDER BY lease_id FOR NO KEY UPDATE
       ), renewed AS (
         UPDATE leases l SET expires_at = greatest(l.expires_at, $3) FROM alive WHERE l.lease_id = alive.lease_id
         RETURNING l.lease_id, l.period_ends_at
       )
       SELECT lease_id FROM renewed WHERE period_ends_at IS NULL OR period_ends_at > $2`,
      [leaseIds, now, new Date(now.getTime() + this.#leaseTtlMs)],
    );
    const alive = new Set(rows.map((row) => row.lease_id));
    return { ttlMs: this.#leaseTtlMs, ended: leaseIds.filter((id) => !alive.has(id.toLowerCase())) };
  }

  /**
   * Takes money back. Leases that are closed are passed over. One that is closed before any ask of it was heard will never be
   * opened: such an ask is still on its way, and nobody waits for its money.
   */
  async giveBack(returns: readonly LeaseReturn[]): Promise<void> {
    const ids = [...new Set(returns.map(({ leaseId }) => leaseId))];
    const now = this.#now();
    await this.#postgres.transaction(async (client) => {
      await closeUnopened(client, returns, now);
      const leases = await lockLeases(client, "l.lease_id = ANY ($1::uuid[]) ORDER BY l.lease_id FOR NO KEY UPDATE", [
        ids,
      ]);
      const fresh = await noteNew(client, returns, now);
      await post(client, postReturns(leases, fresh), { at: now, timeZone: this.#timeZone });
    });
  }

  /**
   * Charges leases that were not renewed in time, a bounded number.
   *
   * @param keyId only this key's.
   * @returns how many, and whether there can be more.
   */
  async expireDue(keyId?: string): Promise<{ count: number; more: boolean }> {
    const now = this.#now();
    const count = await this.#postgres.transaction(async (client) => {
      const leases = await lockLeases(
        client,
        `l.state = 'open' AND l.expires_at <= $1 AND ($2::text IS NULL OR l.key_id = $2)
         ORDER BY l.expires_at LIMIT ${expireMax} FOR NO KEY UPDATE SKIP LOCKED`,
        [now, keyId ?? null],
      );
      if (leases.length > 0) await post(client, postExpiry(leases), { at: now, timeZone: this.#timeZone });
      return leases.length;
    });
    return { count, more: count === expireMax };
  }

  #now(): Date {
    return new Date(this.#clock.nowMs());
  }
}

/** Where the ask is being carried out just now, this waits for it, and the lease is then found like any other. */
async function closeUnopened(client: Queryable, returns: readonly LeaseReturn[], now: Date): Promise<void> {
  const ids = returns.flatMap(({ leaseId, close }) => (close ? leaseId : []));
  if (ids.length === 0) return;
  await client.query(
    `INSERT INTO leases (lease_id, pod_id, state, expires_at)
     SELECT DISTINCT lease_id, '', 'closed', $2::timestamptz FROM unnest($1::uuid[]) AS r (lease_id) ORDER BY lease_id
     ON CONFLICT DO NOTHING`,
    [ids, now],
  );
}

/** @returns those that have not been carried out before, and notes that they are now. */
async function noteNew(client: Queryable, returns: readonly LeaseReturn[], now: Date): Promise<LeaseReturn[]> {
  const rows = await client.query<{ request_id: string }>(
    `INSERT INTO lease_requests (request_id, lease_id, amount_nanos, done_at)
     SELECT request_id, lease_id, amount, $4
     FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS r (request_id, lease_id, amount)
     ORDER BY request_id
     ON CONFLICT DO NOTHING RETURNING request_id`,
    [
      returns.map(({ requestId }) => requestId),
      returns.map(({ leaseId }) => leaseId),
      returns.map(({ amount }) => amount),
      now,
    ],
  );
  const byId = new Map(returns.map((wish) => [wish.requestId.toLowerCase(), wish]));
  return rows.flatMap((row) => byId.get(row.request_id) ?? []);
}
