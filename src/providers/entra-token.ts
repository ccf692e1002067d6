/** Access tokens of Microsoft's identity service, for deployments in Azure. */

import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Clock } from "../clock.ts";
import type { EntraIdentity, TokenSource } from "../config/cloud-access.ts";
import { ProviderFailure } from "../errors.ts";
import { Secret, scrubCredentials } from "../secret.ts";
import { countOf, objectOf, parseJson, textOf } from "../wires/json.ts";
import type { ProviderHttp } from "./http.ts";
import type { Perishable } from "./renewed.ts";
import { RenewedBySource } from "./renewed-by-source.ts";

/** How long the service may take, in milliseconds. */
const timeoutMs = 5_000;
const answerBytesMax = 64 * 1024;
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** Finds the tokens of deployments in Azure, and keeps them while they hold. */
export class EntraTokenStore {
  readonly #http: ProviderHttp;
  readonly #clock: Clock;
  readonly #tokens: RenewedBySource<EntraIdentity, Secret>;

  constructor(parts: { http: ProviderHttp; clock: Clock }) {
    this.#http = parts.http;
    this.#clock = parts.clock;
    const { clock } = parts;
    this.#tokens = new RenewedBySource({ clock, digestOf, fetch: (identity) => this.#fetch(identity) });
  }

  /** @throws ProviderFailure `provider_auth_failed`, whose cause says what is missing. */
  get(identity: EntraIdentity, signal: AbortSignal): Promise<Secret> {
    return this.#tokens.get(identity, signal);
  }

  async #fetch(identity: EntraIdentity): Promise<Perishable<Secret>> {
    if (identity.kind === "token") return { value: identity.token, expiresAtMs: undefined };
    const { clientId, proof, tokenUrl, scope } = identity;
    const proven =
      "secret" in proof
        ? { client_secret: proof.secret.reveal() }
        : { client_assertion_type: assertionType, client_assertion: await readToken(proof.assertion) };
    const fields = { grant_type: "client_credentials", client_id: clientId, scope, ...proven };
    const answer = await this.#http.post({
      url: new URL(tokenUrl),
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: Buffer.from(new URLSearchParams(fields).toString()),
      // Others may wait for it too.
      signal: new AbortController().signal,
      headTimeoutMs: timeoutMs,
      idleTimeoutMs: timeoutMs,
    });
    const text = (await answer.read(answerBytesMax, timeoutMs)).toString();
    if (answer.status !== 200) {
      throw noToken(`status ${answer.status}: ${scrubCredentials(text.slice(0, 300))}`, answer.status >= 500);
    }
    const body = objectOf(parseJson(text));
    const token = textOf(body?.access_token);
    if (token === undefined) throw noToken("an answer without access_token");
    const lifeMs = (countOf(body?.expires_in) ?? 0) * 1000;
    return { value: new Secret(token), expiresAtMs: this.#clock.nowMs() + lifeMs };
  }
}

async function readToken(source: TokenSource): Promise<string> {
  if ("value" in source) return source.value.reveal();
  try {
    return (await readFile(source.file, "utf8")).trim();
  } catch (error) {
    throw noToken(`${source.file} cannot be read: ${(error as { code?: string }).code}`);
  }
}

/** Secrets have no JSON of their own. */
function digestOf(identity: EntraIdentity): string {
  const secrets =
    identity.kind === "token"
      ? [identity.token.reveal()]
      : "secret" in identity.proof
        ? [identity.proof.secret.reveal()]
        : "value" in identity.proof.assertion
          ? [identity.proof.assertion.value.reveal()]
          : [];
  return hash("sha256", JSON.stringify([identity, secrets]), "hex");
}

function noToken(why: string, isAway = false): ProviderFailure {
  return new ProviderFailure(
    isAway ? "provider_unavailable" : "provider_auth_failed",
    "The gateway could not get a token for the provider. Tell your operator.",
    { billable: false, cause: new Error(`no token for Azure: ${why}`) },
  );
}
