/** AWS's token service: taking on a role. It answers in XML, of which four texts are wanted. */

import type { Clock } from "../clock.ts";
import type { AwsRole } from "../config/cloud-access.ts";
import { ProviderFailure } from "../errors.ts";
import { Secret, scrubCredentials } from "../secret.ts";
import type { ProviderHttp } from "./http.ts";
import type { Perishable } from "./renewed.ts";
import { type AwsCredentials, signRequest } from "./sigv4.ts";

const version = "2011-06-15";
/** How long a role is taken on for, in seconds: the most that every role allows. */
const durationS = 3600;
const answerBytesMax = 256 * 1024;

/** How the token service is reached. */
export interface StsAccess {
  readonly http: ProviderHttp;
  readonly clock: Clock;
  readonly region: string;
  readonly url: string;
  readonly timeoutMs: number;
}

/** Takes on a role as somebody else. @throws ProviderFailure `provider_auth_failed` if it may not. */
export function assumeRole(base: AwsCredentials, role: AwsRole, sts: StsAccess): Promise<Perishable<AwsCredentials>> {
  const fields = { Action: "AssumeRole", ...roleFields(role) };
  return ask(role.externalId === undefined ? fields : { ...fields, ExternalId: role.externalId }, base, sts);
}

/** Takes on a role with another identity provider's token. */
export function assumeRoleWithWebIdentity(
  token: Secret,
  role: AwsRole,
  sts: StsAccess,
): Promise<Perishable<AwsCredentials>> {
  const fields = { Action: "AssumeRoleWithWebIdentity", ...roleFields(role), WebIdentityToken: token.reveal() };
  return ask(fields, undefined, sts);
}

function roleFields({ arn, sessionName }: AwsRole): Record<string, string> {
  return { Version: version, RoleArn: arn, RoleSessionName: sessionName, DurationSeconds: String(durationS) };
}

async function ask(
  fields: Record<string, string>,
  signer: AwsCredentials | undefined,
  sts: StsAccess,
): Promise<Perishable<AwsCredentials>> {
  const url = new URL(sts.url);
  const headers = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" };
  const body = Buffer.from(new URLSearchParams(fields).toString());
  const scope = { region: sts.region, service: "sts", nowMs: sts.clock.nowMs() };
  const signature = signer === undefined ? {} : signRequest({ method: "POST", url, headers, body }, signer, scope);
  const answer = await sts.http.post({
    ...{ url, body, headers: { ...headers, ...signature } },
    signal: new AbortController().signal,
    headTimeoutMs: sts.timeoutMs,
    idleTimeoutMs: sts.timeoutMs,
  });
  const text = (await answer.read(answerBytesMax, sts.timeoutMs)).toString();
  if (answer.status !== 200) throw refused(answer.status, text);
  const [accessKeyId, secret, token] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map((name) =>
    inside(text, name),
  );
  const expiresAtMs = Date.parse(inside(text, "Expiration") ?? "");
  if (accessKeyId === undefined || secret === undefined || token === undefined || Number.isNaN(expiresAtMs)) {
    throw refused(answer.status, "an answer without credentials");
  }
  const value = { accessKeyId, secretAccessKey: new Secret(secret), sessionToken: new Secret(token) };
  return { value, expiresAtMs };
}

function refused(status: number, text: string): ProviderFailure {
  const said = scrubCredentials((inside(text, "Message") ?? text).slice(0, 300));
  const code = status >= 500 ? "provider_unavailable" : "provider_auth_failed";
  return new ProviderFailure(code, "The gateway could not get credentials for the provider. Tell your operator.", {
    billable: false,
    cause: new Error(`AWS's token service, status ${status}: ${said}`),
  });
}

/** The text in an element. Those that are wanted here have no children. */
function inside(xml: string, name: string): string | undefined {
  const text = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return text?.replace(/&(amp|lt|gt|quot|apos);/g, (_, entity: string) => entities[entity] ?? "").trim();
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
