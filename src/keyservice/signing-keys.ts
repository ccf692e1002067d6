import { readFileSync } from "node:fs";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { Agent } from "undici";
import type { Clock } from "../clock.ts";
import { FileValue } from "../file-value.ts";
import type { TokenRules } from "./identity-rules.ts";

/** How often keys are asked for anew, in milliseconds: one that was withdrawn is not believed for longer. */
const renewEveryMs = 600_000;
/** A token names a key nobody has heard of: it may be a new one, or made up. In milliseconds. */
const askAgainMs = 30_000;
const timeoutMs = 5_000;
const bytesMax = 1024 * 1024;

/** What SigningKeys are made of. */
interface SigningKeysParts {
  readonly rules: TokenRules;
  readonly clock: Clock;
  /** Told when the keys cannot be had; those of before stay. */
  readonly onError: (error: Error) => void;
}

/** The public keys that tokens are signed with, from a file or from the cluster. Verifying asks nobody else. */
export class SigningKeys {
  readonly #parts: SigningKeysParts;
  readonly #file: FileValue<JWTVerifyGetKey> | undefined;
  #fetched: JWTVerifyGetKey | undefined;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;

  /** @throws Error if they stand in a file that cannot be read. */
  constructor(parts: SigningKeysParts) {
    this.#parts = parts;
    const { jwks_file: file } = parts.rules;
    this.#file =
      file === undefined
        ? undefined
        : new FileValue({ ...parts, files: [file], read: ([content]) => keySet(String(content), `"${file}"`) });
  }

  /** The key that a token's head names. @throws errors of jose; Error if no keys are known. */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (this.#file !== undefined) return this.#file.current(header, token);
    if (this.#sinceAskedMs() > renewEveryMs) {
      // Once there are keys nobody waits for newer ones.
      const asked = this.#ask();
      if (this.#fetched === undefined) await asked;
    }
    if (this.#fetched === undefined) {
      if (this.#sinceAskedMs() > askAgainMs / 10) await this.#ask();
      else await this.#asking;
      if (this.#fetched === undefined) throw new Error("The cluster's signing keys are not known yet.");
    }
    try {
      return await this.#fetched(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || this.#sinceAskedMs() < askAgainMs) throw error;
      await this.#ask();
      return this.#fetched(header, token);
    }
  };

  #sinceAskedMs(): number {
    return this.#parts.clock.monotonicMs() - this.#askedAtMs;
  }

  #ask(): Promise<void> {
    this.#askedAtMs = this.#parts.clock.monotonicMs();
    this.#asking ??= this.#fetch()
      .then((keys) => {
        this.#fetched = keys;
      })
      .catch((error: Error) => this.#parts.onError(error))
      .finally(() => {
        this.#asking = undefined;
      });
    return this.#asking;
  }

  async #fetch(): Promise<JWTVerifyGetKey> {
    const { jwks_url: address = "", jwks_ca_file: caFile, jwks_token_file: tokenFile } = this.#parts.rules;
    const url = new URL(address);
    const agent = new Agent({
      connect: { timeout: timeoutMs, ...(caFile !== undefined && { ca: readFileSync(caFile) }) },
      ...{ headersTimeout: timeoutMs, bodyTimeout: timeoutMs, maxResponseSize: bytesMax },
    });
    try {
      const answer = await agent.request({
        ...{ origin: url.origin, path: url.pathname + url.search, method: "GET" },
        headers: tokenFile === undefined ? {} : { authorization: `Bearer ${readFileSync(tokenFile, "utf8").trim()}` },
      });
      const content = await answer.body.text();
      if (answer.statusCode !== 200) throw new Error(`${address} answered ${answer.statusCode}`);
      return keySet(content, address);
    } finally {
      await agent.destroy();
    }
  }
}

/** @param source where it is from, for the message. */
function keySet(content: string, source: string): JWTVerifyGetKey {
  try {
    return createLocalJWKSet(JSON.parse(content) as JSONWebKeySet);
  } catch (error) {
    throw new Error(`${source}: not a JSON Web Key Set: ${error instanceof Error ? error.message : error}`);
  }
}
