import { hash, timingSafeEqual } from "node:crypto";
import type { Secret } from "./secret.ts";

/** Tells a secret by its SHA-256, in a time that says nothing of it; one that is rotated as it then is. */
export class SecretDigest {
  readonly #secret: Secret | undefined;
  #text: string | undefined;
  #digest = Buffer.alloc(0);

  /** @param secret undefined: nobody has it. */
  constructor(secret: Secret | undefined) {
    this.#secret = secret;
  }

  /** @param digest the SHA-256 of what was sent. */
  is(digest: Buffer): boolean {
    const text = this.#secret?.reveal();
    if (text === undefined) return false;
    if (text !== this.#text) [this.#text, this.#digest] = [text, hash("sha256", text, "buffer")];
    return timingSafeEqual(this.#digest, digest);
  }
}
