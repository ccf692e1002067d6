import assert from "node:assert/strict";
import { test } from "node:test";
import type { AwsAccess, GoogleAccess } from "../../src/config/cloud-access.ts";
import type { Deployment } from "../../src/config/config.ts";
import { configOf, loadText } from "./temporary.ts";

type Context = Parameters<typeof configOf>[0];
type Env = Record<string, string>;

const yamlOf = (params: object) =>
  JSON.stringify({
    model_list: [
      { model_name: "m", litellm_params: params, model_info: { input_cost_per_token: 0, output_cost_per_token: 0 } },
    ],
  });

async function deploymentOf(context: Context, params: object, env: Env = {}): Promise<Deployment> {
  const deployment = (await configOf(context, yamlOf(params), env)).modelGroups.get("m")?.[0];
  assert.ok(deployment !== undefined);
  return deployment;
}

async function awsOf(context: Context, params: object, env: Env = {}): Promise<Deployment & { access: AwsAccess }> {
  const deployment = await deploymentOf(context, { model: "bedrock/amazon.nova-pro-v1:0", ...params }, env);
  const { access } = deployment;
  assert.ok(access?.cloud === "aws");
  return { ...deployment, access };
}

async function googleOf(
  context: Context,
  params: object,
  env: Env = {},
): Promise<Deployment & { access: GoogleAccess }> {
  const deployment = await deploymentOf(context, { model: "vertex_ai/gemini-2.5-pro", ...params }, env);
  const { access } = deployment;
  assert.ok(access?.cloud === "google");
  return { ...deployment, access };
}

/** Why a deployment is left out. */
async function reasonOf(context: Context, params: object, env: Env = {}): Promise<string> {
  const loaded = await loadText(context, yamlOf(params), env);
  assert.ok(loaded.ok);
  assert.equal(loaded.config.modelGroups.get("m"), undefined);
  return loaded.config.notices.map(({ path, message }) => `${path}: ${message}`).join("\n");
}

const here = { AWS_REGION: "eu-west-1" };
const keys = { aws_access_key_id: "AKIA1", aws_secret_access_key: "s1" };

test("Gemini at AI Studio wants a key, which the environment may hold under either of Google's names", async (context) => {
  const params = { model: "gemini/gemini-2.5-flash" };
  const found = await deploymentOf(context, { ...params, api_key: "k" });
  assert.deepEqual(
    [found.wire, found.provider, found.model, found.apiBase, found.apiKey?.reveal()],
    ["gemini", "gemini", "gemini-2.5-flash", "https://generativelanguage.googleapis.com/v1beta", "k"],
  );
  const both = { GEMINI_API_KEY: "g1", GOOGLE_API_KEY: "g2" };
  assert.equal((await deploymentOf(context, params, both)).apiKey?.reveal(), "g1");
  assert.equal((await deploymentOf(context, params, { GOOGLE_API_KEY: "g2" })).apiKey?.reveal(), "g2");
  // A key from the environment goes to no other address.
  assert.equal((await deploymentOf(context, { ...params, api_base: "http://127.0.0.1:9" }, both)).apiKey, undefined);
  assert.match(await reasonOf(context, params), /neither GEMINI_API_KEY nor GEMINI_API_KEY_FILE is set/);
});

test("Bedrock's region comes from the deployment, its model, or the environment, and decides the address", async (context) => {
  const regionOf = async (params: object, env: Env = here) => {
    const { access, apiBase, model } = await awsOf(context, params, env);
    assert.equal(apiBase, `https://bedrock-runtime.${access.region}.amazonaws.com`);
    assert.equal(access.stsUrl, `https://sts.${access.region}.amazonaws.com`);
    return [access.region, model];
  };
  assert.deepEqual(await regionOf({}), ["eu-west-1", "amazon.nova-pro-v1:0"]);
  assert.deepEqual(await regionOf({ aws_region_name: "us-west-2" }), ["us-west-2", "amazon.nova-pro-v1:0"]);
  assert.deepEqual(await regionOf({ model: "bedrock/converse/us-gov-west-1/anthropic.claude" }), [
    ...["us-gov-west-1", "anthropic.claude"],
  ]);
  const arn = "arn:aws:bedrock:ap-south-1:1:inference-profile/apac.anthropic.claude";
  assert.deepEqual(await regionOf({ model: `bedrock/${arn}` }, {}), ["ap-south-1", arn]);
  assert.deepEqual(await regionOf({ model: "bedrock/us.anthropic.claude-3-5" }), [
    "eu-west-1",
    "us.anthropic.claude-3-5",
  ]);
  const china = await awsOf(context, { aws_region_name: "cn-north-1" });
  assert.equal(china.apiBase, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn");
  assert.match(
    await reasonOf(context, { model: "bedrock/x" }),
    /aws_region_name: no region is known: write aws_region_name/,
  );
  const own = await awsOf(context, { aws_bedrock_runtime_endpoint: "https://vpce-1.example.com/" }, here);
  assert.equal(own.apiBase, "https://vpce-1.example.com");
});

test("AWS credentials: the deployment's own, whatever kind they are", async (context) => {
  const sourceOf = async (params: object, env: Env = {}) =>
    (await awsOf(context, params, { ...here, ...env })).access.source;
  const ambient = { AWS_ACCESS_KEY_ID: "AKIA2", AWS_SECRET_ACCESS_KEY: "s2" };
  const source = await sourceOf({ ...keys, aws_session_token: "t1" }, ambient);
  assert.ok(source.kind === "keys");
  assert.deepEqual(
    [source.accessKeyId.reveal(), source.secretAccessKey.reveal(), source.sessionToken?.reveal()],
    ["AKIA1", "s1", "t1"],
  );
  const files = { AWS_SHARED_CREDENTIALS_FILE: "/c", AWS_CONFIG_FILE: "/f" };
  assert.deepEqual(await sourceOf({ aws_profile_name: "p" }, { ...ambient, ...files }), {
    ...{ kind: "profile", name: "p", credentialsFile: "/c", configFile: "/f" },
  });
  const role = { arn: "arn:r", sessionName: "tollgate", externalId: undefined };
  const assumed = await sourceOf({ aws_role_name: "arn:r" }, ambient);
  assert.ok(assumed.kind === "role" && assumed.base.kind === "keys");
  assert.deepEqual(assumed.role, role);
  const token = { aws_role_name: "arn:r", aws_session_name: "n", aws_web_identity_token: "oidc/file/var/token" };
  assert.deepEqual(await sourceOf(token), {
    ...{ kind: "web_identity", token: { file: "var/token" }, role: { ...role, sessionName: "n" } },
  });
});

test("AWS credentials: the environment's, in the order that AWS's own programs have", async (context) => {
  const sourceOf = async (env: Env) => (await awsOf(context, {}, { ...here, ...env })).access.source;
  assert.equal((await sourceOf({ AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b", AWS_PROFILE: "p" })).kind, "keys");
  assert.equal((await sourceOf({ AWS_PROFILE: "p", AWS_ROLE_ARN: "r" })).kind, "profile");
  assert.deepEqual(await sourceOf({ AWS_WEB_IDENTITY_TOKEN_FILE: "/var/token", AWS_ROLE_ARN: "r" }), {
    ...{ kind: "web_identity", token: { file: "/var/token" } },
    role: { arn: "r", sessionName: "tollgate", externalId: undefined },
  });
  const pod = { AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://169.254.170.23/v1/credentials" };
  assert.deepEqual(await sourceOf({ ...pod, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: "/t" }), {
    ...{ kind: "container", url: "http://169.254.170.23/v1/credentials", token: { file: "/t" } },
  });
  const last = await sourceOf({});
  assert.ok(last.kind === "first");
  assert.deepEqual(
    last.of.map(({ kind }) => kind),
    ["profile", "machine"],
  );
});

test("a key of Bedrock's own: the deployment's, or the environment's where nothing else is said", async (context) => {
  const keyOf = async (params: object) =>
    (await awsOf(context, params, { ...here, AWS_BEARER_TOKEN_BEDROCK: "b1" })).apiKey?.reveal();
  assert.equal(await keyOf({ api_key: "b2" }), "b2");
  assert.equal(await keyOf({}), "b1");
  assert.equal(await keyOf(keys), undefined);
  assert.equal(await keyOf({ aws_bedrock_runtime_endpoint: "https://vpce.example.com" }), undefined);
});

test("half of a credential, or one that is not set, leaves the deployment out: another's would be taken", async (context) => {
  const model = "bedrock/amazon.nova-pro-v1:0";
  const reason = (params: object) => reasonOf(context, { model, ...params }, here);
  assert.match(await reason({ aws_access_key_id: "a" }), /aws_secret_access_key: aws_access_key_id is given without/);
  assert.match(await reason({ aws_web_identity_token: "t" }), /aws_role_name: aws_web_identity_token is given without/);
  assert.match(
    await reason({ ...keys, aws_access_key_id: "os.environ/NOBODY" }),
    /neither NOBODY nor NOBODY_FILE is set/,
  );
  assert.match(await reason({ aws_role_name: "os.environ/NOBODY" }), /neither NOBODY/);
  assert.match(await reason({ api_key: "os.environ/NOBODY" }), /neither NOBODY/);
  const google = { model: "vertex_ai/gemini-2.5-pro", vertex_credentials: "os.environ/NOBODY" };
  assert.match(await reasonOf(context, google), /vertex_credentials: neither NOBODY/);
});

test("an endpoint at a metadata address is refused", async (context) => {
  const loaded = await loadText(
    context,
    yamlOf({ model: "bedrock/x", aws_bedrock_runtime_endpoint: "http://169.254.169.254" }),
  );
  assert.equal(loaded.ok, false);
});

test("Vertex AI's place, project and account, by the deployment or the environment", async (context) => {
  const base = await googleOf(context, {});
  assert.equal(base.apiBase, "https://us-central1-aiplatform.googleapis.com/v1");
  assert.deepEqual(base.access, {
    ...{ cloud: "google", project: undefined, location: "us-central1" },
    account: { kind: "machine", url: "http://metadata.google.internal" },
  });
  const named = await googleOf(context, {
    ...{ vertex_project: "p1", vertex_location: "global", vertex_credentials: "/etc/key.json" },
  });
  assert.equal(named.apiBase, "https://aiplatform.googleapis.com/v1");
  assert.deepEqual(named.access, {
    ...{ cloud: "google", project: "p1", location: "global", account: { kind: "file", path: "/etc/key.json" } },
  });
  const together = await googleOf(
    context,
    {},
    { VERTEXAI_LOCATION: "eu", VERTEXAI_PROJECT: "p2", GOOGLE_APPLICATION_CREDENTIALS: "/k" },
  );
  assert.equal(together.apiBase, "https://aiplatform.eu.rep.googleapis.com/v1");
  assert.deepEqual([together.access.project, together.access.account], ["p2", { kind: "file", path: "/k" }]);
  const document = { type: "service_account", private_key: "very-secret" };
  for (const vertex_credentials of [document, JSON.stringify(document)]) {
    const { access } = await googleOf(context, { vertex_credentials });
    assert.ok(access.account.kind === "json");
    assert.deepEqual(JSON.parse(access.account.json.reveal()), document);
    assert.doesNotMatch(JSON.stringify(access), /very-secret/);
  }
  assert.equal((await deploymentOf(context, { model: "gemini-2.5-pro" })).provider, "vertex_ai");
  assert.match(
    await reasonOf(context, { model: "vertex_ai/meta/llama-4-maverick-17b-128e-instruct-maas" }),
    /of Vertex AI's models gemini-... and claude-.../,
  );
});

test("Claude in Google's cloud speaks its maker's wire", async (context) => {
  const found = await googleOf(context, { model: "vertex_ai/claude-sonnet-4-5@20250929" });
  assert.deepEqual([found.wire, found.model], ["anthropic-messages", "claude-sonnet-4-5@20250929"]);
  assert.equal(found.params.lacks.has("seed"), true);
});

test("nothing of a secret is in what is printed of a configuration", async (context) => {
  const found = await awsOf(context, { ...keys, aws_session_token: "t1-secret" }, here);
  const printed = JSON.stringify(found, (_, value) => (typeof value === "bigint" ? String(value) : value));
  assert.match(printed, /"\[secret\]"/);
  assert.doesNotMatch(printed, /AKIA1|"s1"|t1-secret/);
});
