/** The secrets a key had before, while they still work. The statements run in a transaction that has called bumpRevision. */

import { durationMs, parseDuration } from "../duration.ts";
import { GatewayError } from "../errors.ts";
import { durationForm, invalid } from "./key-fields.ts";
import type { Queryable } from "./postgres.ts";
import type { StoredSecret } from "./secrets.ts";

/**
 * Makes sure that a secret opens no key already as one of its former ones. One whose time is over may be used again.
 *
 * @param param what the caller's face calls the field.
 * @throws GatewayError `already_exists`.
 */
export async function refuseFormerSecret(
  client: Queryable,
  { secretHmac }: StoredSecret,
  { nowMs, param }: { readonly nowMs: number; readonly param: string },
): Promise<void> {
  const now = new Date(nowMs);
  await client.query("DELETE FROM former_secrets WHERE secret_hmac = $1 AND ends_at <= $2", [secretHmac, now]);
  const rows = await client.query("SELECT FROM former_secrets WHERE secret_hmac = $1", [secretHmac]);
  if (rows.length === 0) return;
  throw new GatewayError(
    "already_exists",
    "This secret was a key's until lately, and still works. Choose another one.",
    {
      param,
    },
  );
}

/**
 * Gives a key another secret.
 *
 * @param endsAtMs until when the one of before still works; undefined: it and all earlier ones end now.
 */
export async function replaceSecret(
  client: Queryable,
  keyId: string,
  secret: StoredSecret,
  { nowMs, endsAtMs }: { readonly nowMs: number; readonly endsAtMs: number | undefined },
): Promise<void> {
  if (endsAtMs === undefined) {
    await forgetSecrets(client, keyId);
  } else {
    await client.query(
      `INSERT INTO former_secrets (secret_hmac, pepper_id, key_id, ends_at)
       SELECT secret_hmac, pepper_id, key_id, $2 FROM keys WHERE key_id = $1`,
      [keyId, new Date(endsAtMs)],
    );
  }
  await client.query(
    `UPDATE keys SET secret_hmac = $2, pepper_id = $3, masked = $4, rotation_count = rotation_count + 1, rotated_at = $5
     WHERE key_id = $1`,
    [keyId, secret.secretHmac, secret.pepperId, secret.masked, new Date(nowMs)],
  );
}

/** Ends all former secrets of a key. */
export async function forgetSecrets(client: Queryable, keyId: string): Promise<void> {
  await client.query("DELETE FROM former_secrets WHERE key_id = $1", [keyId]);
}

/**
 * How long a secret that is replaced goes on, in milliseconds.
 *
 * @param gracePeriod "24h" for instance; "" or "0": not at all.
 * @returns undefined for none.
 * @throws GatewayError `invalid_request`.
 */
export function graceOf({
  gracePeriod,
  gracePeriodName,
}: {
  readonly gracePeriod: string;
  readonly gracePeriodName: string;
}): number | undefined {
  if (/^(?:0(?:s|m|h|d|w|mo)?)?$/.test(gracePeriod)) return undefined;
  const length = parseDuration(gracePeriod);
  if (length === undefined) throw invalid(gracePeriodName, `must be "0" or ${durationForm}`);
  return durationMs(length);
}
