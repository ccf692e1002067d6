/** Delivers what is noted in the books. Every replica has one; they do not get in each other's way, and no call waits for them. */

import type { Clock, Random } from "../../clock.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { Queryable } from "../postgres.ts";
import type { Alert } from "./alert.ts";
import { type Claim, claimDue, concludeClaim } from "./outbox.ts";
import { type AlertSink, DeliveryFailed } from "./sink.ts";
import { deliveryTimeoutMs } from "./sinks.ts";

/** Something that notes alerts when it is asked to look. */
export interface AlertWatch {
  /** How often it is asked, in milliseconds. */
  readonly intervalMs: number;
  look(): Promise<void>;
}

/** What an AlertCourier is made of. */
export interface AlertCourierParts {
  readonly books: Queryable;
  readonly sinks: readonly AlertSink[];
  readonly watches: readonly AlertWatch[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Telemetry["log"];
  /** How often it looks for what is due, in milliseconds. Default 5 s. */
  readonly intervalMs?: number;
  /** The first pause after a failed delivery, in milliseconds; each further one is twice as long, up to an hour. Default 10 s. */
  readonly retryFirstMs?: number;
  /** How long it goes on trying, in milliseconds. Default a day. */
  readonly giveUpMs?: number;
}

/** Delivered one after the other by each sink: with every one at its slowest they take less than the claim. */
const claimedMax = 10;
const claimMs = 120_000;
/** A sink that did not answer is left alone for so long: alerts that the others are to have would wait for it each time. */
const pauseMs = 60_000;
const retryMaxMs = 3_600_000;
const defaults = { intervalMs: 5_000, retryFirstMs: 10_000, giveUpMs: 86_400_000 };

/**
 * Tells every alert to every sink that wants it, at least once: a replica that dies, or loses the books, between a delivery and its note
 * leaves the alert to be delivered again, with the same deduplication key.
 */
export class AlertCourier {
  readonly #parts: AlertCourierParts & typeof defaults;
  readonly #closing = new AbortController();
  readonly #lookedAtMs = new Map<AlertWatch, number>();
  /** By sink, until when it is left alone. */
  readonly #pausedUntilMs = new Map<string, number>();
  #cancel = () => {};
  #running: Promise<void> = Promise.resolve();

  constructor(parts: AlertCourierParts) {
    this.#parts = { ...defaults, ...parts };
  }

  start(): void {
    if (this.#closing.signal.aborted) return;
    this.#cancel = this.#parts.clock.after(this.#parts.intervalMs, () => {
      this.#running = this.#look()
        .catch((error) =>
          this.#parts.log("warn", "Alerts could not be looked for or noted; that is tried again.", { error }),
        )
        .then(() => this.start());
    });
  }

  /** Breaks off deliveries under way: they are made again, by another replica or after the next start. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancel();
    await this.#running;
  }

  /** @throws whatever the books throw; what could not be noted is delivered again. */
  async deliverDue(): Promise<void> {
    const { books } = this.#parts;
    for (;;) {
      if (this.#closing.signal.aborted) return;
      const claims = await claimDue(books, { limit: claimedMax, claimMs });
      await this.#deliver(claims);
      if (claims.length < claimedMax) return;
    }
  }

  /** What is noted goes first, and a watch that fails keeps neither it nor the other watches from their turn. */
  async #look(): Promise<void> {
    const { watches, clock, log } = this.#parts;
    await this.deliverDue();
    for (const watch of watches) {
      const nowMs = clock.monotonicMs();
      if (this.#closing.signal.aborted) return;
      if (nowMs - (this.#lookedAtMs.get(watch) ?? Number.NEGATIVE_INFINITY) < watch.intervalMs) continue;
      this.#lookedAtMs.set(watch, nowMs);
      await watch
        .look()
        .catch((error) => log("warn", "What alerts are about could not be looked at; that is tried again.", { error }));
    }
  }

  async #deliver(claims: readonly Claim[]): Promise<void> {
    const { sinks, books } = this.#parts;
    const delivered = new Map<Claim, string[]>(claims.map((claim) => [claim, []]));
    await Promise.all(
      sinks.map(async (sink) => {
        for (const claim of await this.#deliverTo(sink, claims)) delivered.get(claim)?.push(sink.name);
      }),
    );
    for (const [claim, deliveredTo] of delivered) {
      const has = new Set([...claim.deliveredTo, ...deliveredTo]);
      const missing = sinks.filter((sink) => sink.wants(claim.alert) && !has.has(sink.name)).map(({ name }) => name);
      const retryMs = missing.length === 0 ? undefined : this.#retryMs(claim, missing);
      await concludeClaim(books, claim, { deliveredTo, retryMs });
    }
  }

  /** @returns those that the sink has now. */
  async #deliverTo(sink: AlertSink, claims: readonly Claim[]): Promise<Claim[]> {
    const { log, clock } = this.#parts;
    const done: Claim[] = [];
    if (clock.monotonicMs() < (this.#pausedUntilMs.get(sink.name) ?? Number.NEGATIVE_INFINITY)) return done;
    for (const claim of claims) {
      const { alert, deliveredTo, attempt } = claim;
      if (deliveredTo.includes(sink.name) || !sink.wants(alert) || this.#closing.signal.aborted) continue;
      try {
        await this.#hand(sink, alert);
        done.push(claim);
      } catch (thrown) {
        if (this.#closing.signal.aborted) break;
        // A bug of a sink must not keep the others from theirs. Its text may hold anything, so it is not told.
        const failed =
          thrown instanceof DeliveryFailed ? thrown : new DeliveryFailed("It failed by a bug.", { isAway: false });
        const facts = { sink: sink.name, alert: alert.kind, alert_id: String(alert.alertId), attempt };
        log("warn", "An alert could not be delivered.", { ...facts, reason: failed.message });
        if (failed.isAway) {
          this.#pausedUntilMs.set(sink.name, clock.monotonicMs() + pauseMs);
          break;
        }
      }
    }
    return done;
  }

  async #hand(sink: AlertSink, alert: Alert): Promise<void> {
    const attempt = new AbortController();
    const cancel = this.#parts.clock.after(deliveryTimeoutMs, () => attempt.abort());
    try {
      await sink.deliver(alert, AbortSignal.any([attempt.signal, this.#closing.signal]));
    } finally {
      cancel();
    }
  }

  /** @returns when to try again, in milliseconds; undefined: never. */
  #retryMs({ alert, attempt, ageMs }: Claim, missing: readonly string[]): number | undefined {
    const { retryFirstMs, giveUpMs, random, log } = this.#parts;
    if (ageMs < giveUpMs)
      return Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(attempt - 1, 30)) * (0.5 + random() / 2);
    const facts = { alert: alert.kind, alert_id: String(alert.alertId), attempts: attempt, missing: missing.join(" ") };
    log("error", "An alert was given up: it could not be delivered in time.", facts);
    return undefined;
  }
}
