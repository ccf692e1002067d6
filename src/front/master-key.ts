import { hash, timingSafeEqual } from "node:crypto";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";

/** Tells the master key from others, in a time that says nothing of it. */
export class MasterKey {
  readonly #digest: Buffer | undefined;

  /** @param secret undefined: nobody has it. */
  constructor(secret: Secret | undefined) {
    this.#digest = secret && digestOf(secret.reveal());
  }

  is(token: string): boolean {
    return this.#digest !== undefined && timingSafeEqual(this.#digest, digestOf(token));
  }

  /** @throws GatewayError missing_api_key, permission_denied. */
  check(token: string | undefined): void {
    if (token === undefined) throw new GatewayError("missing_api_key", "Send the master key.");
    if (!this.is(token)) throw new GatewayError("permission_denied", "Only the master key may do this.");
  }
}

function digestOf(text: string): Buffer {
  return hash("sha256", text, "buffer");
}
