import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { Secret } from "../secret.ts";

/** The key that stands for the master key in the books: its calls are not limited, but what they cost is booked. */
export const masterKeyId = "key_master";

/** A value that is mixed into every stored digest and is not in the database, so that a copy of the database opens nothing. */
export interface Pepper {
  /** Tells which pepper a stored digest was made with. Not secret. */
  readonly id: string;
  readonly value: Secret;
}

/** The digest of a virtual key as sidecars send it: SHA-256. */
export function digestSecret(secret: string): Buffer {
  return createHash("sha256").update(secret, "utf8").digest();
}

/**
 * What is stored of a virtual key, and what it is found by.
 *
 * @param sha256 the key's SHA-256, see digestSecret.
 */
export function hashSecret(sha256: Buffer, pepper: Pepper): Buffer {
  return createHmac("sha256", pepper.value.reveal()).update(sha256).digest();
}

/** Compares in a time that tells nothing about how much of the two is the same, nor how long the expected one is. */
export function sameSecret(given: string, expected: Secret | string): boolean {
  const text = typeof expected === "string" ? expected : expected.reveal();
  return timingSafeEqual(digestSecret(given), digestSecret(text));
}
