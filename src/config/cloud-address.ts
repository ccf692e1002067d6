/** Where and as whom a deployment in a cloud is called: what it says itself, else what the environment does. */

import { Secret } from "../secret.ts";
import { readApiBase } from "./api-base.ts";
import type {
  AwsAccess,
  AwsRole,
  AwsSource,
  AzureAccess,
  GoogleAccess,
  GoogleAccount,
  TokenSource,
} from "./cloud-access.ts";
import type { Deployment } from "./config.ts";
import { isArea } from "./regions.ts";
import type { ModelEntry } from "./schema-model.ts";

type Params = ModelEntry["litellm_params"];
type Lookup = (name: string) => string | undefined;

/** Where a deployment is called; or what is missing, and at which parameter. */
export type CloudAddress =
  | {
      readonly model: string;
      readonly apiBase: string;
      readonly apiKey: Secret | undefined;
      readonly access: AwsAccess | AzureAccess | GoogleAccess;
      /** Where it is another than the provider's row says. */
      readonly outputCapField?: Deployment["outputCapField"];
    }
  | { readonly key: string; readonly reason: string };

/** Every variable `lookup` may be asked for on a cloud's behalf. */
export const cloudVariables: readonly string[] =
  `AWS_REGION_NAME AWS_REGION AWS_DEFAULT_REGION AWS_BEDROCK_RUNTIME_ENDPOINT AWS_BEARER_TOKEN_BEDROCK AWS_ENDPOINT_URL_STS
   AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE
   AWS_WEB_IDENTITY_TOKEN_FILE AWS_ROLE_ARN AWS_ROLE_SESSION_NAME AWS_CONTAINER_CREDENTIALS_FULL_URI
   AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
   AWS_EC2_METADATA_SERVICE_ENDPOINT VERTEXAI_PROJECT VERTEX_PROJECT GOOGLE_CLOUD_PROJECT VERTEXAI_LOCATION VERTEX_LOCATION
   VERTEXAI_CREDENTIALS GOOGLE_APPLICATION_CREDENTIALS GCE_METADATA_HOST`.split(/\s+/);

/** A role's session is called this unless somebody names it; it is seen in AWS's logs. */
const sessionName = "tollgate";

/** @param model as written behind the provider's name: LiteLLM takes a route and a region before the model's id. */
export function findAws(model: string, params: Params, lookup: Lookup): CloudAddress {
  const [, inModel, id = ""] = /^(?:converse\/|invoke\/)?(?:([a-z]{2}(?:-[a-z]+)+-\d)\/)?(.+)$/.exec(model) ?? [];
  const inArn = /^arn:aws[\w-]*:bedrock:([a-z0-9-]+):/.exec(id)?.[1];
  const region =
    params.aws_region_name ??
    (params.region_name !== undefined && isArea(params.region_name) ? undefined : params.region_name) ??
    inModel ??
    inArn ??
    lookup("AWS_REGION_NAME") ??
    lookup("AWS_REGION") ??
    lookup("AWS_DEFAULT_REGION");
  if (region === undefined || !/^[a-z0-9-]+$/.test(region)) {
    return {
      key: "aws_region_name",
      reason: "no region is known: write aws_region_name, such as us-east-1, or set AWS_REGION",
    };
  }
  const home =
    readApiBase(lookup("AWS_BEDROCK_RUNTIME_ENDPOINT")) ?? `https://bedrock-runtime.${region}.${domainOf(region)}`;
  const apiBase = params.aws_bedrock_runtime_endpoint ?? params.api_base ?? params.base_url ?? home;
  const source = awsSource(params, lookup);
  if ("reason" in source) return source;
  // A key from the environment is for the environment's address, and for who names no other credentials.
  const hasOwn = Object.keys(params).some((key) => /^aws_(access|secret|session_token|profile|role|web)/.test(key));
  const bearer = hasOwn || apiBase !== home ? undefined : lookup("AWS_BEARER_TOKEN_BEDROCK");
  const apiKey = params.api_key ?? (bearer === undefined ? undefined : new Secret(bearer));
  const stsUrl = readApiBase(lookup("AWS_ENDPOINT_URL_STS")) ?? `https://sts.${region}.${domainOf(region)}`;
  return { model: id, apiBase, apiKey, access: { cloud: "aws", region, source, stsUrl } };
}

/** China's regions have a domain of their own. */
function domainOf(region: string): string {
  return region.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
}

function awsSource(params: Params, lookup: Lookup): AwsSource | { readonly key: string; readonly reason: string } {
  const { aws_access_key_id: id, aws_secret_access_key: secret, aws_web_identity_token: token } = params;
  const role = awsRole(params);
  if ((id === undefined) !== (secret === undefined)) {
    const [missing, given] =
      id === undefined
        ? ["aws_access_key_id", "aws_secret_access_key"]
        : ["aws_secret_access_key", "aws_access_key_id"];
    return { key: missing, reason: `${given} is given without ${missing}` };
  }
  if (token !== undefined) {
    if (role === undefined)
      return { key: "aws_role_name", reason: "aws_web_identity_token is given without aws_role_name" };
    return { kind: "web_identity", token: tokenSource(token), role };
  }
  const files = { credentialsFile: lookup("AWS_SHARED_CREDENTIALS_FILE"), configFile: lookup("AWS_CONFIG_FILE") };
  const name = params.aws_profile_name;
  const base: AwsSource =
    id !== undefined && secret !== undefined
      ? { kind: "keys", accessKeyId: id, secretAccessKey: secret, sessionToken: params.aws_session_token }
      : name !== undefined
        ? { kind: "profile", name, ...files }
        : ambientSource(files, lookup);
  return role === undefined ? base : { kind: "role", base, role };
}

function awsRole(params: Params): AwsRole | undefined {
  const arn = params.aws_role_name;
  if (arn === undefined) return undefined;
  return { arn, sessionName: params.aws_session_name ?? sessionName, externalId: params.aws_external_id };
}

/** LiteLLM's `oidc/file/PATH`, or the token itself. */
export function tokenSource(token: Secret): TokenSource {
  const text = token.reveal();
  return text.startsWith("oidc/file/") ? { file: text.slice("oidc/file/".length) } : { value: token };
}

/** Where AWS's own programs look, in their order. */
function ambientSource(
  files: { readonly credentialsFile: string | undefined; readonly configFile: string | undefined },
  lookup: Lookup,
): AwsSource {
  const [id, secret, token] = [
    lookup("AWS_ACCESS_KEY_ID"),
    lookup("AWS_SECRET_ACCESS_KEY"),
    lookup("AWS_SESSION_TOKEN"),
  ];
  if (id !== undefined && secret !== undefined) {
    const sessionToken = token === undefined ? undefined : new Secret(token);
    return { kind: "keys", accessKeyId: new Secret(id), secretAccessKey: new Secret(secret), sessionToken };
  }
  const name = lookup("AWS_PROFILE");
  if (name !== undefined) return { kind: "profile", name, ...files };
  const [file, arn] = [lookup("AWS_WEB_IDENTITY_TOKEN_FILE"), lookup("AWS_ROLE_ARN")];
  if (file !== undefined && arn !== undefined) {
    const role = { arn, sessionName: lookup("AWS_ROLE_SESSION_NAME") ?? sessionName, externalId: undefined };
    return { kind: "web_identity", token: { file }, role };
  }
  const container = containerSource(lookup);
  if (container !== undefined) return container;
  const machine = {
    kind: "machine",
    url: lookup("AWS_EC2_METADATA_SERVICE_ENDPOINT") ?? "http://169.254.169.254",
  } as const;
  return { kind: "first", of: [{ kind: "profile", name: "default", ...files }, machine] };
}

/** Amazon's agent beside a container tells it where to ask, and in Kubernetes with what token. */
function containerSource(lookup: Lookup): AwsSource | undefined {
  const path = lookup("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const here = path === undefined ? undefined : `http://169.254.170.2${path}`;
  const url = lookup("AWS_CONTAINER_CREDENTIALS_FULL_URI") ?? here;
  if (url === undefined || !URL.canParse(url)) return undefined;
  const file = lookup("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  return { kind: "container", url, token: file === undefined ? undefined : { file } };
}

/** @param model as written behind the provider's name. */
export function findGoogle(model: string, params: Params, lookup: Lookup): CloudAddress {
  if (!/^(gemini|gemma|claude)|^\d+$/.test(model)) {
    return {
      key: "model",
      reason: "of Vertex AI's models gemini-... and claude-... are served, and endpoints of Gemini's, by their number",
    };
  }
  const location =
    params.vertex_location ??
    params.vertex_ai_location ??
    lookup("VERTEXAI_LOCATION") ??
    lookup("VERTEX_LOCATION") ??
    "us-central1";
  if (!/^[a-z0-9-]+$/.test(location))
    return { key: "vertex_location", reason: "this is no location, such as us-central1" };
  const project =
    params.vertex_project ??
    params.vertex_ai_project ??
    lookup("VERTEXAI_PROJECT") ??
    lookup("VERTEX_PROJECT") ??
    lookup("GOOGLE_CLOUD_PROJECT");
  const apiBase = params.api_base ?? params.base_url ?? `https://${hostOf(location)}/v1`;
  const access: GoogleAccess = { cloud: "google", project, location, account: googleAccount(params, lookup) };
  return { model, apiBase, apiKey: undefined, access };
}

/** One region's, several regions' together ("us", "eu"), or anywhere's ("global"). */
function hostOf(location: string): string {
  if (location === "global") return "aiplatform.googleapis.com";
  if (!location.includes("-")) return `aiplatform.${location}.rep.googleapis.com`;
  return `${location}-aiplatform.googleapis.com`;
}

/** A key's JSON or its file's path; without one, whoever the machine is. */
function googleAccount(params: Params, lookup: Lookup): GoogleAccount {
  const inEnvironment = lookup("VERTEXAI_CREDENTIALS") ?? lookup("GOOGLE_APPLICATION_CREDENTIALS");
  const given = params.vertex_credentials ?? params.vertex_ai_credentials;
  const text = given?.reveal() ?? inEnvironment;
  if (text === undefined) {
    return { kind: "machine", url: `http://${lookup("GCE_METADATA_HOST") ?? "metadata.google.internal"}` };
  }
  return text.trimStart().startsWith("{") ? { kind: "json", json: new Secret(text) } : { kind: "file", path: text };
}
