import { hash } from "node:crypto";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { SecretDigest } from "../secret-digest.ts";

/** Tells the master key from others, in a time that says nothing of it. */
export class MasterKey {
  readonly #digest: SecretDigest;

  /** @param secret undefined: nobody has it. */
  constructor(secret: Secret | undefined) {
    this.#digest = new SecretDigest(secret);
  }

  is(token: string): boolean {
    return this.#digest.is(hash("sha256", token, "buffer"));
  }

  /** @throws GatewayError missing_api_key, permission_denied. */
  check(token: string | undefined): void {
    if (token === undefined) throw new GatewayError("missing_api_key", "Send the master key.");
    if (!this.is(token)) throw new GatewayError("permission_denied", "Only the master key may do this.");
  }
}
