/** Who may administer: whoever holds the master key. */

import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { sameSecret } from "./secrets.ts";

/** The headers a key may come in, as LiteLLM ranks them. `authorization` wants "Bearer " before it. */
const keyHeaders = ["x-litellm-api-key", "authorization", "api-key", "x-api-key"] as const;
const bearer = /^bearer\s+/i;

/**
 * The key a caller sent, master or virtual.
 *
 * @param header gives a header by its lower-case name.
 * @throws GatewayError `missing_api_key`, also for an `authorization` that is not "Bearer ...".
 */
export function keyOfCaller(header: (name: string) => string | undefined): string {
  for (const name of keyHeaders) {
    const value = header(name)?.trim();
    if (value === undefined || value === "") continue;
    if (name !== "authorization") return value.replace(bearer, "");
    if (bearer.test(value)) return value.replace(bearer, "");
    throw new GatewayError("missing_api_key", "The `authorization` header must be `Bearer ` and the key.");
  }
  throw new GatewayError("missing_api_key", "No key was sent. Send the master key as `authorization: Bearer sk-...`.");
}

/** @throws GatewayError `invalid_api_key` unless `key` is the master key. */
export function requireMasterKey(key: string, masterKey: Secret): void {
  if (sameSecret(key, masterKey)) return;
  throw new GatewayError("invalid_api_key", "Only the master key may do this, and the key that was sent is not it.");
}
