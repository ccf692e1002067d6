import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Clock } from "../clock.ts";
import type { AwsAccess, AwsSource, TokenSource } from "../config/cloud-access.ts";
import { ProviderFailure } from "../errors.ts";
import { Secret } from "../secret.ts";
import { isObject, parseJson, textOf } from "../wires/json.ts";
import { readProfile } from "./aws-profiles.ts";
import { assumeRole, assumeRoleWithWebIdentity } from "./aws-sts.ts";
import type { ProviderHttp } from "./http.ts";
import type { Perishable } from "./renewed.ts";
import { aheadMs, RenewedBySource } from "./renewed-by-source.ts";
import type { AwsCredentials } from "./sigv4.ts";

/** How long whoever gives out credentials may take, in milliseconds. */
const timeoutMs = 5_000;
const answerBytesMax = 64 * 1024;

/** Finds the credentials of deployments in AWS, and keeps them while they hold. */
export class AwsCredentialStore {
  readonly #http: ProviderHttp;
  readonly #clock: Clock;
  readonly #credentials: RenewedBySource<AwsAccess, AwsCredentials>;

  constructor(parts: { http: ProviderHttp; clock: Clock }) {
    this.#http = parts.http;
    this.#clock = parts.clock;
    const fetch = (access: AwsAccess) => this.#fetch(access.source, access);
    this.#credentials = new RenewedBySource({ clock: parts.clock, digestOf, fetch });
  }

  /** @throws ProviderFailure `provider_auth_failed`, whose cause says what is missing. */
  get(access: AwsAccess, signal: AbortSignal): Promise<AwsCredentials> {
    return this.#credentials.get(access, signal);
  }

  async #fetch(source: AwsSource, access: AwsAccess): Promise<Perishable<AwsCredentials>> {
    const sts = { http: this.#http, clock: this.#clock, region: access.region, url: access.stsUrl, timeoutMs };
    switch (source.kind) {
      case "keys": {
        const { secretAccessKey, sessionToken } = source;
        const value = { accessKeyId: source.accessKeyId.reveal(), secretAccessKey, sessionToken };
        return { value, expiresAtMs: undefined };
      }
      case "profile": {
        const found = await readProfile(source);
        // The file may be rewritten by whoever renews what is in it.
        if (found.kind === "keys") {
          return { ...(await this.#fetch(found, access)), expiresAtMs: this.#clock.nowMs() + 2 * aheadMs };
        }
        return this.#fetch(found, access);
      }
      case "web_identity":
        return assumeRoleWithWebIdentity(await readToken(source.token), source.role, sts);
      case "first":
        return this.#fetchFirst(source.of, access);
      case "role": {
        const { value } = await this.#fetch(source.base, access);
        return assumeRole(value, source.role, sts);
      }
      case "container": {
        const token = source.token === undefined ? undefined : await readToken(source.token);
        return readCredentials(await this.#ask("GET", source.url, token && { authorization: token.reveal() }));
      }
      case "machine":
        return this.#askMachine(source.url);
    }
  }

  async #fetchFirst(sources: readonly AwsSource[], access: AwsAccess): Promise<Perishable<AwsCredentials>> {
    const failures: string[] = [];
    for (const source of sources) {
      try {
        return await this.#fetch(source, access);
      } catch (thrown) {
        const why = thrown instanceof Error ? (thrown.cause ?? thrown) : thrown;
        failures.push(why instanceof Error ? why.message : String(why));
      }
    }
    throw noCredentials(failures.join("; "));
  }

  /** The second version of Amazon's instance metadata: a token first, which a request forged through a server could not get. */
  async #askMachine(url: string): Promise<Perishable<AwsCredentials>> {
    const token = await this.#ask("PUT", `${url}/latest/api/token`, { "x-aws-ec2-metadata-token-ttl-seconds": "60" });
    const headers = { "x-aws-ec2-metadata-token": token };
    const path = `${url}/latest/meta-data/iam/security-credentials/`;
    const role = (await this.#ask("GET", path, headers)).trim();
    return readCredentials(await this.#ask("GET", path + encodeURIComponent(role), headers));
  }

  async #ask(method: "GET" | "PUT", url: string, headers: Record<string, string> | undefined): Promise<string> {
    const answer = await this.#http.send(method, {
      url: new URL(url),
      headers: headers ?? {},
      body: Buffer.alloc(0),
      signal: new AbortController().signal,
      headTimeoutMs: timeoutMs,
      idleTimeoutMs: timeoutMs,
    });
    const text = (await answer.read(answerBytesMax, timeoutMs)).toString();
    if (answer.status !== 200) throw noCredentials(`${new URL(url).host} answered with status ${answer.status}`);
    return text;
  }
}

/** A failure to find credentials: the operator's to mend, who reads the cause in the log. */
function noCredentials(why: string): ProviderFailure {
  return new ProviderFailure(
    "provider_auth_failed",
    "The gateway has no credentials for the provider. Tell your operator.",
    { billable: false, cause: new Error(why) },
  );
}

/** What Amazon's agents and metadata services answer. */
function readCredentials(text: string): Perishable<AwsCredentials> {
  const body = parseJson(text);
  const fields = isObject(body) ? body : {};
  const [accessKeyId, secret] = [textOf(fields.AccessKeyId), textOf(fields.SecretAccessKey)];
  const token = textOf(fields.Token);
  const expiresAtMs = Date.parse(textOf(fields.Expiration) ?? "");
  if (accessKeyId === undefined || secret === undefined) throw noCredentials("the answer has no credentials in it");
  const sessionToken = token === undefined ? undefined : new Secret(token);
  return {
    value: { accessKeyId, secretAccessKey: new Secret(secret), sessionToken },
    expiresAtMs: Number.isNaN(expiresAtMs) ? undefined : expiresAtMs,
  };
}

async function readToken(source: TokenSource): Promise<Secret> {
  if ("value" in source) return source.value;
  try {
    return new Secret((await readFile(source.file, "utf8")).trim());
  } catch (error) {
    throw noCredentials(`the token's file cannot be read: ${(error as { code?: string }).code}`);
  }
}

function digestOf(access: AwsAccess): string {
  // In the access itself secrets are written as "[secret]".
  const secrets = secretsOf(access.source).map((secret) => secret.reveal());
  return hash("sha256", JSON.stringify([access, secrets]), "hex");
}

function secretsOf(source: AwsSource): readonly Secret[] {
  switch (source.kind) {
    case "keys":
      return [
        source.accessKeyId,
        source.secretAccessKey,
        ...(source.sessionToken === undefined ? [] : [source.sessionToken]),
      ];
    case "role":
      return secretsOf(source.base);
    case "first":
      return source.of.flatMap(secretsOf);
    case "web_identity":
    case "container":
      return source.token !== undefined && "value" in source.token ? [source.token.value] : [];
    default:
      return [];
  }
}
