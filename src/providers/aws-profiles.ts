/** AWS's own files of profiles (https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html). */

import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { AwsSource } from "../config/cloud-access.ts";
import { ProviderFailure } from "../errors.ts";
import { Secret } from "../secret.ts";

type Profile = ReadonlyMap<string, string>;
type ProfileSource = Extract<AwsSource, { kind: "profile" }>;

/** Profiles may build on each other; so many is a circle. */
const depthMax = 8;

/**
 * Reads a profile: keys, or a role with where it comes from.
 *
 * @throws ProviderFailure `provider_auth_failed`, whose cause says what the files lack.
 */
export async function readProfile(source: ProfileSource): Promise<AwsSource> {
  const directory = join(homedir(), ".aws");
  const config = await readProfiles(source.configFile ?? join(directory, "config"));
  const credentials = await readProfiles(source.credentialsFile ?? join(directory, "credentials"));
  const find = (name: string): Profile | undefined => {
    const [one, other] = [config.get(name), credentials.get(name)];
    // Of both files the credentials' goes first.
    return one === undefined && other === undefined ? undefined : new Map([...(one ?? []), ...(other ?? [])]);
  };
  return sourceOf(source.name, find, source, 0);
}

function sourceOf(
  name: string,
  find: (name: string) => Profile | undefined,
  files: ProfileSource,
  depth: number,
): AwsSource {
  const profile = find(name);
  if (profile === undefined) throw lacks(name, "is not in AWS's files");
  if (depth > depthMax) throw lacks(name, "builds on itself");
  const arn = profile.get("role_arn");
  if (arn === undefined) return keysOf(name, profile);
  const role = {
    arn,
    sessionName: profile.get("role_session_name") ?? "tollgate",
    externalId: profile.get("external_id"),
  };
  const file = profile.get("web_identity_token_file");
  if (file !== undefined) return { kind: "web_identity", token: { file }, role };
  const base = profile.get("source_profile");
  if (base === undefined) throw lacks(name, "has a role_arn, and neither source_profile nor web_identity_token_file");
  // A profile may name itself: then its own keys take on its role.
  const self = base === name ? keysOf(name, profile) : sourceOf(base, find, files, depth + 1);
  return { kind: "role", base: self, role };
}

function keysOf(name: string, profile: Profile): AwsSource {
  const [id, secret] = [profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")];
  if (id === undefined || secret === undefined) {
    throw lacks(name, "has no aws_access_key_id and aws_secret_access_key; SSO and credential_process are not served");
  }
  const token = profile.get("aws_session_token");
  const sessionToken = token === undefined ? undefined : new Secret(token);
  return { kind: "keys", accessKeyId: new Secret(id), secretAccessKey: new Secret(secret), sessionToken };
}

function lacks(name: string, what: string): ProviderFailure {
  return new ProviderFailure(
    "provider_auth_failed",
    "The gateway has no credentials for the provider. Tell your operator.",
    { billable: false, cause: new Error(`the AWS profile ${JSON.stringify(name)} ${what}`) },
  );
}

/** A file that is not there has no profiles. */
async function readProfiles(path: string): Promise<ReadonlyMap<string, Profile>> {
  let text = "";
  try {
    text = await readFile(path, "utf8");
  } catch {
    return new Map();
  }
  const profiles = new Map<string, Map<string, string>>();
  let current: Map<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    const section = /^\s*\[\s*(?:profile\s+)?([^\]]+?)\s*\]/.exec(line)?.[1];
    if (section !== undefined) {
      current = profiles.get(section) ?? new Map();
      profiles.set(section, current);
      continue;
    }
    // Lines that are indented belong to a setting of several lines, none of which matters here.
    const [, key, value] = /^([a-z0-9_]+)\s*=\s*(.*?)\s*$/i.exec(line) ?? [];
    if (key !== undefined && value !== undefined) current?.set(key.toLowerCase(), value);
  }
  return profiles;
}
