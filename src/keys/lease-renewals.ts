import type { Clock } from "../clock.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { Authority } from "./authority.ts";
import type { Lease } from "./lease.ts";

/** Leases renewed in one request. */
const batchMax = 10_000;
/** After a failure, in milliseconds. */
const retryMs = 1_000;

/** Keeps leases alive: all of them together, when a third of their time has passed. */
export class LeaseRenewals {
  readonly #authority: Authority;
  readonly #clock: Clock;
  readonly #telemetry: Pick<Telemetry, "log">;
  #dueAtMs = Number.POSITIVE_INFINITY;
  #renewing = false;

  constructor(parts: { authority: Authority; clock: Clock; telemetry: Pick<Telemetry, "log"> }) {
    this.#authority = parts.authority;
    this.#clock = parts.clock;
    this.#telemetry = parts.telemetry;
  }

  /** A lease was given `ttlMs` at `sentAtMs` (monotonic). */
  expect(sentAtMs: number, ttlMs: number): void {
    this.#dueAtMs = Math.min(this.#dueAtMs, sentAtMs + ttlMs / 3);
  }

  isDue(nowMs: number): boolean {
    return nowMs >= this.#dueAtMs && !this.#renewing;
  }

  /** Never rejects. `onOver` is told of leases that the KeyService had already ended. */
  async renew(leases: readonly Lease[], onOver: (lease: Lease) => void): Promise<void> {
    this.#renewing = true;
    this.#dueAtMs = Number.POSITIVE_INFINITY;
    try {
      for (let start = 0; start < leases.length; start += batchMax) {
        const batch = leases.slice(start, start + batchMax);
        const sentAtMs = this.#clock.monotonicMs();
        const { ttlMs, ended } = await this.#authority.renew(batch.map((lease) => lease.id));
        this.expect(sentAtMs, ttlMs);
        const over = new Set(ended);
        for (const lease of batch) {
          if (over.has(lease.id)) onOver(lease);
          else lease.expiresAtMs = Math.max(lease.expiresAtMs, sentAtMs + ttlMs);
        }
      }
    } catch (error) {
      this.#dueAtMs = this.#clock.monotonicMs() + retryMs;
      this.#telemetry.log("warn", "Leases could not be renewed.", { error, leases: leases.length });
    } finally {
      this.#renewing = false;
    }
  }
}
