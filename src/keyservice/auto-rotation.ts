import type { JsonObject } from "../completion.ts";
import { parseDuration } from "../duration.ts";
import { invalid } from "./key-fields.ts";

/**
 * Checks what is said of a key's rotating by itself.
 *
 * @param current what was said before; undefined for a new key.
 * @param isDelivered whether new secrets are delivered to somebody.
 * @throws GatewayError `invalid_request`.
 */
export function checkAutoRotation(
  extra: JsonObject | undefined,
  current: JsonObject | undefined,
  isDelivered: boolean,
): void {
  const { auto_rotate: isAuto = null, rotation_interval: interval = null } = { ...current, ...extra };
  const length = typeof interval === "string" ? parseDuration(interval) : undefined;
  if (extra?.rotation_interval !== undefined && interval !== null && length === undefined) {
    throw invalid("rotation_interval", 'must be a duration such as "30d", or null.');
  }
  if (extra?.auto_rotate === undefined && extra?.rotation_interval === undefined) return;
  if (isAuto === null || isAuto === false) return;
  if (isAuto !== true) throw invalid("auto_rotate", "must be true or false.");
  // A secret that nobody is there to receive would be lost when the old one ends.
  if (!isDelivered) {
    throw invalid(
      "auto_rotate",
      "is not served: there is nowhere to deliver the new secret to. Set TOLLGATE_KEY_ROTATION_URL at the KeyService, or let your own " +
        "scheduler call /key/regenerate with a `grace_period`, and store what it answers.",
    );
  }
  if (length === undefined) throw invalid("rotation_interval", 'is missing: how often the key rotates, such as "30d".');
}
