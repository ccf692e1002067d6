/** Access tokens for Google's cloud, from an account's key or the machine's metadata service. */

import { createPrivateKey, hash, sign } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Clock } from "../clock.ts";
import type { JsonObject } from "../completion.ts";
import { readApiBase } from "../config/api-base.ts";
import type { GoogleAccess, GoogleAccount } from "../config/cloud-access.ts";
import type { PrivateHosts } from "../config/private-hosts.ts";
import { ProviderFailure } from "../errors.ts";
import { Secret, scrubCredentials } from "../secret.ts";
import { countOf, isObject, objectOf, parseJson, textOf } from "../wires/json.ts";
import type { ProviderHttp } from "./http.ts";
import type { Perishable } from "./renewed.ts";
import { RenewedBySource } from "./renewed-by-source.ts";

/** How long whoever gives out tokens may take, in milliseconds. */
const timeoutMs = 5_000;
const answerBytesMax = 64 * 1024;
/** How long what is signed for a token holds, in seconds: Google's bound. */
const assertionS = 3600;
const scope = "https://www.googleapis.com/auth/cloud-platform";
const jwtGrant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange";

/** Who calls Google's cloud. */
export interface GoogleIdentity {
  readonly token: Secret;
  /** The project the account belongs to, if it says so. */
  readonly project: string | undefined;
}

interface TokenQuestion {
  readonly method: "GET" | "POST";
  readonly url: string;
  /** As in ProviderRequest. */
  readonly privateHosts?: PrivateHosts | undefined;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** Finds the tokens of deployments in Google's cloud, and keeps them while they hold. */
export class GoogleTokenStore {
  readonly #http: ProviderHttp;
  readonly #clock: Clock;
  readonly #tokens: RenewedBySource<GoogleAccount, GoogleIdentity>;

  constructor(parts: { http: ProviderHttp; clock: Clock }) {
    this.#http = parts.http;
    this.#clock = parts.clock;
    const { clock } = parts;
    this.#tokens = new RenewedBySource({ clock, digestOf, fetch: (account) => this.#fetch(account) });
  }

  /** @throws ProviderFailure `provider_auth_failed`, whose cause says what is missing. */
  get({ account }: GoogleAccess, signal: AbortSignal): Promise<GoogleIdentity> {
    return this.#tokens.get(account, signal);
  }

  async #fetch(account: GoogleAccount): Promise<Perishable<GoogleIdentity>> {
    if (account.kind === "machine") return this.#askMachine(account.url);
    const text = account.kind === "json" ? account.json.reveal() : await readText(account.path);
    const key = parseJson(text);
    if (!isObject(key)) throw noToken("the account's key is not a JSON object");
    const privateHosts = account.kind === "json" ? account.privateHosts : undefined;
    switch (key.type) {
      case "service_account":
        return this.#askAsService(key, privateHosts);
      case "authorized_user":
        return this.#askAsUser(key, privateHosts);
      case "external_account":
        // It has a file of this machine read and sent to an address, which a text from elsewhere must not.
        if (account.kind !== "file") throw noToken("an external account's key is taken only in a file");
        return this.#askAsStranger(key);
      default:
        throw noToken(`an account's key of type ${JSON.stringify(key.type ?? null)} is not served`);
    }
  }

  /** A statement signed with the account's key is worth a token (RFC 7523). */
  async #askAsService(key: JsonObject, privateHosts?: PrivateHosts): Promise<Perishable<GoogleIdentity>> {
    const url = urlIn(key, "token_uri", "https://oauth2.googleapis.com/token", privateHosts);
    const nowS = Math.floor(this.#clock.nowMs() / 1000);
    const email = wanted(key, "client_email");
    const claims = { iss: email, sub: email, aud: url, scope, iat: nowS, exp: nowS + assertionS };
    const assertion = signJwt(
      { alg: "RS256", typ: "JWT", kid: key.private_key_id ?? "" },
      claims,
      wanted(key, "private_key"),
    );
    const body = await this.#post(url, { grant_type: jwtGrant, assertion }, privateHosts);
    return this.#identity(body, textOf(key.project_id));
  }

  /** What `gcloud auth application-default login` leaves. */
  async #askAsUser(key: JsonObject, privateHosts?: PrivateHosts): Promise<Perishable<GoogleIdentity>> {
    const url = urlIn(key, "token_uri", "https://oauth2.googleapis.com/token", privateHosts);
    const fields = { grant_type: "refresh_token", refresh_token: wanted(key, "refresh_token") };
    const client = { client_id: wanted(key, "client_id"), client_secret: wanted(key, "client_secret") };
    const body = await this.#post(url, { ...fields, ...client }, privateHosts);
    return this.#identity(body, textOf(key.quota_project_id));
  }

  /** Another identity provider's token, in a file, exchanged for Google's (workload identity federation). */
  async #askAsStranger(key: JsonObject): Promise<Perishable<GoogleIdentity>> {
    const source = objectOf(key.credential_source);
    const path = textOf(source?.file);
    if (path === undefined) throw noToken("of external accounts those with a file as credential_source are served");
    const field = textOf(objectOf(source?.format)?.subject_token_field_name);
    const text = (await readText(path)).trim();
    const subject = field === undefined ? text : textOf(objectOf(parseJson(text))?.[field]);
    const body = await this.#post(urlIn(key, "token_url", "https://sts.googleapis.com/v1/token"), {
      ...{ grant_type: exchangeGrant, audience: wanted(key, "audience"), scope, subject_token: subject ?? "" },
      requested_token_type: "urn:ietf:params:oauth:token-type:access_token",
      subject_token_type: wanted(key, "subject_token_type"),
    });
    const identity = this.#identity(body, textOf(key.quota_project_id));
    const impersonation = textOf(key.service_account_impersonation_url);
    return impersonation === undefined ? identity : this.#impersonate(impersonation, identity.value);
  }

  async #impersonate(url: string, identity: GoogleIdentity): Promise<Perishable<GoogleIdentity>> {
    const headers = { "content-type": "application/json", authorization: `Bearer ${identity.token.reveal()}` };
    const body = await this.#ask({ method: "POST", url, headers, body: JSON.stringify({ scope: [scope] }) });
    const expiresAtMs = Date.parse(textOf(body.expireTime) ?? "");
    if (Number.isNaN(expiresAtMs)) throw noToken("an impersonation without an end");
    return { value: { token: new Secret(wanted(body, "accessToken")), project: identity.project }, expiresAtMs };
  }

  async #askMachine(url: string): Promise<Perishable<GoogleIdentity>> {
    const headers = { "metadata-flavor": "Google" };
    const path = `${url}/computeMetadata/v1`;
    const ask = { method: "GET", headers, body: "" } as const;
    const body = await this.#ask({ ...ask, url: `${path}/instance/service-accounts/default/token` });
    const project = await this.#askText({ ...ask, url: `${path}/project/project-id` });
    return this.#identity(body, project.text.trim());
  }

  #post(url: string, fields: Record<string, string>, privateHosts?: PrivateHosts): Promise<JsonObject> {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    return this.#ask({ method: "POST", url, privateHosts, headers, body: new URLSearchParams(fields).toString() });
  }

  #identity(body: JsonObject, project: string | undefined): Perishable<GoogleIdentity> {
    const lifeMs = (countOf(body.expires_in) ?? 0) * 1000;
    const value = { token: new Secret(wanted(body, "access_token")), project };
    return { value, expiresAtMs: this.#clock.nowMs() + lifeMs };
  }

  async #ask(question: TokenQuestion): Promise<JsonObject> {
    const { text } = await this.#askText(question);
    const answer = parseJson(text);
    if (!isObject(answer)) throw noToken("an answer that is no JSON object");
    return answer;
  }

  async #askText({ method, url, privateHosts, headers, body }: TokenQuestion) {
    const answer = await this.#http.send(method, {
      ...{ url: new URL(url), privateHosts, headers, body: Buffer.from(body) },
      signal: new AbortController().signal,
      headTimeoutMs: timeoutMs,
      idleTimeoutMs: timeoutMs,
    });
    const text = (await answer.read(answerBytesMax, timeoutMs)).toString();
    if (answer.status !== 200) throw refused(answer.status, text);
    return { text };
  }
}

/** Secrets have no JSON of their own. */
function digestOf(account: GoogleAccount): string {
  const secret = account.kind === "json" ? account.json.reveal() : "";
  return hash("sha256", JSON.stringify([account, secret]), "hex");
}

function signJwt(header: JsonObject, claims: JsonObject, privateKey: string): string {
  const unsigned = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  try {
    return `${unsigned}.${sign("RSA-SHA256", Buffer.from(unsigned), createPrivateKey(privateKey)).toString("base64url")}`;
  } catch {
    throw noToken("the account's private_key cannot be read");
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw noToken(`${path} cannot be read: ${(error as { code?: string }).code}`);
  }
}

function wanted(fields: JsonObject, name: string): string {
  const text = textOf(fields[name]);
  if (text === undefined) throw noToken(`${name} is missing`);
  return text;
}

function urlIn(key: JsonObject, name: string, otherwise: string, privateHosts?: PrivateHosts): string {
  const url = textOf(key[name]) ?? otherwise;
  const mayCall = readApiBase(url) !== undefined && privateHosts?.allowsHost(new URL(url).hostname) !== false;
  if (!mayCall) throw noToken(`${name} is no address that may be called`);
  return url;
}

function refused(status: number, text: string): ProviderFailure {
  return noToken(`status ${status}: ${scrubCredentials(text.slice(0, 300))}`, status >= 500);
}

function noToken(why: string, isAway = false): ProviderFailure {
  return new ProviderFailure(
    isAway ? "provider_unavailable" : "provider_auth_failed",
    "The gateway could not get a token for the provider. Tell your operator.",
    { billable: false, cause: new Error(`no token for Google's cloud: ${why}`) },
  );
}
