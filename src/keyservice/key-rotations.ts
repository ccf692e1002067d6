/** Keys that rotate by themselves (`auto_rotate`, `rotation_interval`). */

import { randomUUID } from "node:crypto";
import type { Clock } from "../clock.ts";
import { durationMs, parseDuration } from "../duration.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { Poster } from "./alerts/poster.ts";
import { DeliveryFailed } from "./alerts/sink.ts";
import { bumpRevision } from "./changes.ts";
import type { Keys } from "./keys.ts";
import type { Database } from "./postgres.ts";
import type { Vault } from "./vault.ts";

/** Where new secrets go. */
export interface RotationTarget {
  /** They are posted there; a secret itself, and https unless it is this machine. */
  readonly url: Secret;
  /** How long the secret of before still works once the new one is delivered, in milliseconds. */
  readonly graceMs: number;
}

/** What KeyRotations are made of. */
export interface KeyRotationsParts {
  readonly books: Database;
  /** Of an operator who may do everything. */
  readonly keys: Pick<Keys, "rotateUndelivered">;
  readonly vault: Vault;
  readonly target: RotationTarget;
  readonly clock: Clock;
  readonly log: Telemetry["log"];
  /** How often it is looked what is due, in milliseconds. Default 10 s. */
  readonly intervalMs?: number;
}

interface DueRow {
  key_id: string;
  interval: string;
  since: Date;
  rotation_count: number;
}

interface Claim {
  key_id: string;
  rotation_id: string;
  secret_values: Buffer;
  encryption_key_id: string;
  attempts: number;
  alias: string | null;
  user_id: string | null;
  team_id: string | null;
  deleted_at: Date | null;
}

const deliveryMs = 10_000;
const retryFirstS = 10;
const retryMaxS = 3_600;

/** What a rotation's secret is sealed for. */
export function rotationOwner(rotationId: string): string {
  return `key rotation ${rotationId}`;
}

/**
 * Gives keys another secret when their interval is over. Three steps, each of which can be repeated by any replica after any crash: the
 * new secret works beside the old one, and is kept encrypted; it is delivered, for as long as that takes; only then does the old one's
 * grace begin. So there is always a secret that works and that somebody has.
 */
export class KeyRotations {
  readonly #parts: KeyRotationsParts;
  readonly #poster = new Poster();
  readonly #closing = new AbortController();
  #cancel = () => {};
  #running: Promise<void> = Promise.resolve();

  constructor(parts: KeyRotationsParts) {
    this.#parts = parts;
  }

  start(): void {
    if (this.#closing.signal.aborted) return;
    const { clock, log, intervalMs = 10_000 } = this.#parts;
    this.#cancel = clock.after(intervalMs, () => {
      this.#running = this.rotateDue()
        .catch((error) => log("warn", "Keys that are to rotate could not be seen to; that is tried again.", { error }))
        .then(() => this.start());
    });
  }

  /** Breaks off a delivery under way: it is made again. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancel();
    await this.#running;
    await this.#poster.close();
  }

  /** Begins what is due, and delivers what was begun. @throws whatever the books throw. */
  async rotateDue(): Promise<void> {
    for (const due of await this.#due()) await this.#begin(due);
    while (!this.#closing.signal.aborted) {
      const claim = await this.#claim();
      if (claim === undefined) return;
      await this.#finish(claim);
    }
  }

  async #due(): Promise<DueRow[]> {
    const { books, clock } = this.#parts;
    const rows = await books.query<DueRow>(
      `SELECT key_id, extra->>'rotation_interval' AS interval, coalesce(rotated_at, created_at) AS since, rotation_count
       FROM keys k WHERE extra->'auto_rotate' = 'true' AND deleted_at IS NULL AND NOT blocked
         AND NOT EXISTS (SELECT FROM key_rotations r WHERE r.key_id = k.key_id)`,
    );
    return rows.filter(({ interval, since }) => {
      const length = parseDuration(interval ?? "");
      return length !== undefined && since.getTime() + durationMs(length) <= clock.nowMs();
    });
  }

  async #begin({ key_id: keyId, rotation_count: rotationCount }: DueRow): Promise<void> {
    const { keys, vault } = this.#parts;
    const rotationId = randomUUID();
    try {
      await keys.rotateUndelivered(keyId, rotationCount, async (client, secret) => {
        const { keyId: encryptionKeyId, bytes } = vault.seal({ secret }, rotationOwner(rotationId));
        await client.query(
          "INSERT INTO key_rotations (key_id, rotation_id, secret_values, encryption_key_id) VALUES ($1, $2, $3, $4)",
          [keyId, rotationId, bytes, encryptionKeyId],
        );
      });
    } catch (error) {
      // Another replica, or an operator, was quicker; or the key is gone.
      const isLate = error instanceof GatewayError && (error.code === "conflict" || error.code === "not_found");
      if (!isLate) throw error;
    }
  }

  /** Takes one whose time has come, so that for a while no other replica delivers it too. */
  async #claim(): Promise<Claim | undefined> {
    const [claim] = await this.#parts.books.query<Claim>(
      `UPDATE key_rotations r SET attempts = r.attempts + 1,
         next_attempt_at = now() + least($1 * 2 ^ least(r.attempts, 20), $2) * interval '1 second'
       FROM keys k
       WHERE k.key_id = r.key_id AND r.key_id = (
         SELECT key_id FROM key_rotations WHERE next_attempt_at <= now() ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED)
       RETURNING r.*, k.alias, k.user_id, k.team_id, k.deleted_at`,
      [retryFirstS, retryMaxS],
    );
    return claim;
  }

  async #finish(claim: Claim): Promise<void> {
    const { log, target } = this.#parts;
    if (claim.deleted_at === null) {
      const facts = { keyId: claim.key_id, attempt: claim.attempts };
      try {
        await this.#deliver(claim);
      } catch (thrown) {
        if (this.#closing.signal.aborted) return;
        // Its text may hold anything, so what is no failure of delivery is not told.
        const reason = thrown instanceof DeliveryFailed || thrown instanceof GatewayError ? thrown.message : "A bug.";
        log("warn", "A key's new secret could not be delivered; the one of before works on.", { ...facts, reason });
        return;
      }
      log("info", "A key has rotated by itself.", facts);
    }
    await this.#parts.books.transaction(async (client) => {
      await bumpRevision(client, { scope: "key", id: claim.key_id });
      const sql = "DELETE FROM key_rotations WHERE rotation_id = $1 RETURNING 1";
      if ((await client.query(sql, [claim.rotation_id])).length === 0) return;
      const endsAt = new Date(this.#parts.clock.nowMs() + target.graceMs);
      await client.query("UPDATE former_secrets SET ends_at = $2 WHERE key_id = $1 AND ends_at > $2", [
        claim.key_id,
        endsAt,
      ]);
    });
  }

  async #deliver(claim: Claim): Promise<void> {
    const { vault, target } = this.#parts;
    const { rotation_id: id, key_id, alias: key_alias, user_id, team_id } = claim;
    const sealed = { keyId: claim.encryption_key_id, bytes: claim.secret_values };
    const { secret } = vault.open(sealed, rotationOwner(id));
    const body = {
      ...{ event: "key_rotated", id, key_id, key_alias, user_id, team_id },
      key: secret,
      former_key_grace_s: target.graceMs / 1000,
    };
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(deliveryMs)]);
    await this.#poster.post(target.url, body, signal, { "idempotency-key": id });
  }
}
