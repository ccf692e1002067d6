/** Virtual keys' secrets and ids: how they are made, what form they have, and what an operator may call a key. */

import { randomBytes, timingSafeEqual } from "node:crypto";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { digestSecret } from "./secrets.ts";

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const secretForm = /^sk-[\x21-\x7e]{16,509}$/;
const digestForm = /^[0-9a-fA-F]{64}$/;
const idForm = /^key_[0-9A-Za-z]{20}$/;

/** What an operator called a key: the secret (or its SHA-256), the id, or else the alias. */
export type KeyReference =
  | { readonly kind: "digest"; readonly sha256: Buffer }
  | { readonly kind: "id"; readonly keyId: string }
  | { readonly kind: "alias"; readonly alias: string };

/** Makes a secret: "sk-" and 43 letters and digits from 32 random bytes. */
export function newSecret(): string {
  return `sk-${inBase62(randomBytes(32), 43)}`;
}

/** Makes a public key id: "key_" and 20 letters and digits. */
export function newKeyId(): string {
  return `key_${inBase62(randomBytes(16), 20)}`;
}

/** Makes the id of a budget: "budget_" and 20 letters and digits. */
export function newBudgetId(): string {
  return `budget_${inBase62(randomBytes(16), 20)}`;
}

/** Whether what an operator gave for a secret is its SHA-256, in hexadecimal digits. */
export function isDigest(secret: string): boolean {
  return digestForm.test(secret);
}

/**
 * A secret's SHA-256. A digest in the place of a secret is itself: so keys come over from LiteLLM, which has kept nothing else of
 * them. No secret looks like one, and a caller who shows a digest shows it to be digested: it opens nothing.
 */
export function digestOf(secret: string): Buffer {
  return isDigest(secret) ? Buffer.from(secret, "hex") : digestSecret(secret);
}

/**
 * Checks a secret an operator chose, or its SHA-256 in hexadecimal digits.
 *
 * @param param what the caller's face calls the field.
 * @throws GatewayError `invalid_request` that does not repeat the secret; `already_exists` if it is the master key.
 */
export function checkSecret(secret: string, masterKey: Secret, param: string): void {
  if (timingSafeEqual(digestOf(secret), digestSecret(masterKey.reveal()))) {
    throw new GatewayError("already_exists", `\`${param}\` must not be the master key.`, { param });
  }
  if (secretForm.test(secret) || isDigest(secret)) return;
  throw new GatewayError(
    "invalid_request",
    `\`${param}\` must start with "sk-" and go on with 16 to 509 visible ASCII characters. Leave it out and one is made.`,
    { param },
  );
}

/** What is shown of a secret: "sk-...abcd", or "sk-..." where only its digest is known. */
export function maskSecret(secret: string): string {
  return isDigest(secret) ? "sk-..." : `sk-...${secret.slice(-4)}`;
}

/** Reads what an operator called a key. Never fails: what has no other form is an alias. */
export function readReference(text: string): KeyReference {
  if (text.startsWith("sk-")) return { kind: "digest", sha256: digestSecret(text) };
  if (digestForm.test(text)) return { kind: "digest", sha256: Buffer.from(text, "hex") };
  if (idForm.test(text)) return { kind: "id", keyId: text };
  return { kind: "alias", alias: text };
}

function inBase62(bytes: Buffer, length: number): string {
  let rest = BigInt(`0x${bytes.toString("hex")}`);
  let digits = "";
  for (let place = 0; place < length; place++) {
    digits = base62.charAt(Number(rest % 62n)) + digits;
    rest /= 62n;
  }
  return digits;
}
