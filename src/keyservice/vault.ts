/** Secrets that have to come back in the clear, and so are encrypted instead of hashed. */

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";

const algorithm = "aes-256-gcm";
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/** Something encrypted, as it is stored. */
export interface Sealed {
  /** Tells which key it takes. Not secret. */
  readonly keyId: string;
  /** Nonce, ciphertext, tag. */
  readonly bytes: Buffer;
}

interface VaultKey {
  readonly id: string;
  readonly value: Buffer;
}

/** Encrypts with the newest of its keys, and decrypts with whichever was used. */
export class Vault {
  readonly #newest: VaultKey;
  readonly #byId: ReadonlyMap<string, VaultKey>;

  /** @param keys at least one; the newest first. */
  constructor(keys: readonly Secret[]) {
    const derived = keys.map(deriveKey);
    const [newest] = derived;
    if (newest === undefined) throw new RangeError("A Vault needs a key.");
    this.#newest = newest;
    this.#byId = new Map(derived.map((key) => [key.id, key]));
  }

  /** The id of the key that is encrypted with. */
  get newestKeyId(): string {
    return this.#newest.id;
  }

  /** @param owner the row it is for: put into another one, it does not open. */
  seal(plain: JsonObject, owner: string): Sealed {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv(algorithm, this.#newest.value, nonce, { authTagLength: tagBytes }).setAAD(
      Buffer.from(owner),
    );
    const text = Buffer.concat([cipher.update(JSON.stringify(plain), "utf8"), cipher.final()]);
    return { keyId: this.#newest.id, bytes: Buffer.concat([nonce, text, cipher.getAuthTag()]) };
  }

  /** @throws GatewayError `secrets_unreadable` if the key is not among those known, or the bytes are not what was sealed for `owner`. */
  open({ keyId, bytes }: Sealed, owner: string): JsonObject {
    const key = this.#byId.get(keyId);
    if (key === undefined) {
      throw new GatewayError(
        "secrets_unreadable",
        `Stored secrets are encrypted with the key ${keyId}, which this KeyService does not have. Add it to TOLLGATE_ENCRYPTION_KEYS (an earlier LITELLM_SALT_KEY, or master key where there was none), or delete and make anew what has them.`,
      );
    }
    try {
      const decipher = createDecipheriv(algorithm, key.value, bytes.subarray(0, nonceBytes), {
        authTagLength: tagBytes,
      }).setAAD(Buffer.from(owner));
      decipher.setAuthTag(bytes.subarray(-tagBytes));
      const text = [decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()];
      return JSON.parse(Buffer.concat(text).toString("utf8")) as JsonObject;
    } catch (cause) {
      throw new GatewayError(
        "secrets_unreadable",
        "Stored secrets are not as they were written. Delete and make anew what has them.",
        {
          cause,
        },
      );
    }
  }
}

/** Whatever the operator wrote becomes a key of the right length, and an id that says nothing of it. */
function deriveKey(given: Secret): VaultKey {
  const derive = (purpose: string, length: number) =>
    Buffer.from(hkdfSync("sha256", given.reveal(), "", `tollgate stored secrets: ${purpose}`, length));
  return { id: derive("id", 4).toString("hex"), value: derive("key", keyBytes) };
}
