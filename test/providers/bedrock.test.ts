import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, describe, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { CompletionEvent, CompletionRequest } from "../../src/completion.ts";
import type { AwsRole, AwsSource } from "../../src/config/cloud-access.ts";
import type { Deployment } from "../../src/config/config.ts";
import { GatewayError } from "../../src/errors.ts";
import { ProviderHttp } from "../../src/providers/http.ts";
import { ProviderSet } from "../../src/providers/provider-set.ts";
import { Secret } from "../../src/secret.ts";
import {
  accessKey,
  BedrockUpstream,
  bedrockWords,
  refuse,
  region,
  sendEvents,
  textEvents,
} from "../bedrock-upstream.ts";
import { bedrockExceptionFrame } from "../event-frame.ts";
import { all, sampleDeployment, sampleRequest } from "../sample-call.ts";
import { joined } from "../wires/reading.ts";

const model = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const arn = `arn:aws:bedrock:${region}:123456789012:inference-profile/${model}`;
const usage = {
  ...{ inputTokens: 177, outputTokens: 20, cacheReadInputTokens: 100, cacheWriteInputTokens: 30 },
  ...{ cacheWrite1hInputTokens: 10, reasoningOutputTokens: 0, estimated: false },
};
const role: AwsRole = { arn: "arn:aws:iam::1:role/llm", sessionName: "tollgate", externalId: "ext" };
const keys: AwsSource = {
  ...{ kind: "keys", accessKeyId: new Secret(accessKey.id), secretAccessKey: new Secret(accessKey.secret) },
  sessionToken: undefined,
};

describe("Bedrock", () => {
  let upstream: BedrockUpstream;
  let http: ProviderHttp;
  let providers: ProviderSet;
  const directory = mkdtempSync(join(tmpdir(), "tollgate-aws-"));
  const [credentialsFile, configFile] = [join(directory, "credentials"), join(directory, "config")];
  beforeEach(async () => {
    upstream = await BedrockUpstream.start();
    http = new ProviderHttp({ clock: systemClock });
    providers = new ProviderSet({ http, clock: systemClock });
  });
  afterEach(async () => {
    await http.close();
    await upstream.close();
  });
  after(() => rmSync(directory, { recursive: true }));

  const complete = (
    request: CompletionRequest,
    { source = keys, ...facts }: Partial<Deployment> & { source?: AwsSource } = {},
  ): AsyncIterable<CompletionEvent> => {
    const access = { cloud: "aws", region, source, stsUrl: `${upstream.url}/sts` } as const;
    const place = { wire: "bedrock-converse", provider: "bedrock", apiBase: upstream.url, access } as const;
    const deployment = sampleDeployment({ ...place, model: request.model, ...facts });
    const signal = new AbortController().signal;
    return providers.of(deployment).complete({
      request,
      deployment,
      signal,
      outputTokensMax: undefined,
      traceparent: "00-1-2-01",
      timeoutMs: 5_000,
      idleTimeoutMs: 5_000,
    });
  };
  const failureOf = async (...args: Parameters<typeof complete>): Promise<GatewayError> => {
    try {
      await all(complete(...args));
    } catch (error) {
      assert.ok(error instanceof GatewayError, String(error));
      return error;
    }
    throw new Error("it did not fail");
  };
  const answers = async (source: AwsSource) => {
    const events = await all(complete(sampleRequest({ model }), { source }));
    assert.equal(joined(events).text, bedrockWords.join(""));
  };

  test("answers whole and as a stream, signed, for plain ids and ARNs, and says what it used", async () => {
    for (const name of [model, arn]) {
      for (const stream of [false, true]) {
        const events = await all(complete(sampleRequest({ model: name, stream }), { headers: { "X-Own": "1" } }));
        const { text, reason, end } = joined(events);
        assert.deepEqual([text, reason], [bedrockWords.join(""), "stop"]);
        assert.deepEqual(end?.usage, usage);
        assert.equal(end?.responseId, "request-1");
        assert.equal(upstream.calls.at(-1)?.headers["x-own"], "1");
      }
    }
    assert.equal(upstream.calls[2]?.path, `/model/${encodeURIComponent(arn)}/converse`);
  });

  test("a wrong secret is refused, and neither secret nor key is told", async () => {
    const wrong = { ...keys, secretAccessKey: new Secret("wrong-secret-value") } as AwsSource;
    const failure = await failureOf(sampleRequest({ model }), { source: wrong });
    assert.equal(failure.code, "provider_auth_failed");
    assert.doesNotMatch(`${failure.message} ${String(failure.facts.cause)}`, /wrong-secret-value|AKIATEST/);
    assert.match(String(failure.facts.cause), /a wrong signature/);
  });

  test("a key of Bedrock's own goes as it is, and credentials of a session with their token", async () => {
    upstream.bearers.add("bedrock-api-key-1");
    await all(complete(sampleRequest({ model }), { apiKey: new Secret("bedrock-api-key-1") }));
    assert.equal(upstream.calls[0]?.headers.authorization, "Bearer bedrock-api-key-1");
    assert.equal((await failureOf(sampleRequest({ model }), { apiKey: new Secret("x") })).code, "provider_auth_failed");
    upstream.keys.set("ASIASESSION", { secret: "s", token: "t==" });
    await answers({
      ...{ kind: "keys", accessKeyId: new Secret("ASIASESSION"), secretAccessKey: new Secret("s") },
      sessionToken: new Secret("t=="),
    });
  });

  test("a role is taken on once, with the name and the id that were given, and anew before it ends", async () => {
    const source: AwsSource = { kind: "role", base: keys, role };
    await Promise.all([answers(source), answers(source), answers({ kind: "role", base: keys, role })]);
    assert.equal(upstream.roles.length, 1);
    const [asked] = upstream.roles;
    assert.deepEqual(
      ["RoleArn", "RoleSessionName", "ExternalId"].map((name) => asked?.get(name)),
      [role.arn, "tollgate", "ext"],
    );
    upstream.lendsForS = 60;
    const short: AwsSource = { kind: "role", base: keys, role: { ...role, arn: "arn:aws:iam::1:role/short" } };
    await answers(short);
    await answers(short);
    for (let waited = 0; upstream.roles.length < 3 && waited < 2_000; waited += 10) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.ok(upstream.roles.length >= 3, "so near to its end each call has it fetched anew, and none waits");
  });

  test("a web identity's token is read anew for each role it is turned into", async () => {
    const file = join(directory, "token");
    writeFileSync(file, "first\n");
    upstream.webIdentity = "first";
    await answers({ kind: "web_identity", token: { file }, role });
    writeFileSync(file, "second");
    upstream.webIdentity = "second";
    await answers({ kind: "web_identity", token: { file }, role: { ...role, sessionName: "other" } });
    await answers({ kind: "web_identity", token: { value: new Secret("second") }, role });
    const refused = await failureOf(sampleRequest({ model }), {
      source: { kind: "web_identity", token: { value: new Secret("stolen-token") }, role },
    });
    assert.equal(refused.code, "provider_auth_failed");
    assert.match(String(refused.facts.cause), /a bad token/);
    assert.doesNotMatch(`${refused.message} ${String(refused.facts.cause)}`, /stolen-token/);
    const none = { kind: "web_identity", token: { file: join(directory, "none") }, role } as const;
    assert.match(String((await failureOf(sampleRequest({ model }), { source: none })).facts.cause), /ENOENT/);
  });

  test("profiles: keys, roles that build on others, and what is wrong with one", async () => {
    writeFileSync(
      credentialsFile,
      `# mine\n[base]\naws_access_key_id = ${accessKey.id}\naws_secret_access_key=${accessKey.secret}\n\n[half]\naws_access_key_id = x\n`,
    );
    writeFileSync(
      configFile,
      `[profile base]\nregion = us-east-1\naws_secret_access_key = overruled\ns3 =\n  aws_access_key_id = nested\n` +
        `[profile lent]\nrole_arn = ${role.arn}\nsource_profile = base\nexternal_id = e2\n` +
        `[profile self]\nrole_arn = ${role.arn}\nsource_profile = self\n` +
        `aws_access_key_id = ${accessKey.id}\naws_secret_access_key = ${accessKey.secret}\n` +
        `[profile one]\nrole_arn = a\nsource_profile = two\n[profile two]\nrole_arn = a\nsource_profile = one\n` +
        `[profile sso]\nsso_session = x\n[profile bare]\nrole_arn = a\n`,
    );
    const profile = (name: string): AwsSource => ({ kind: "profile", name, credentialsFile, configFile });
    await answers(profile("base"));
    await answers(profile("lent"));
    await answers(profile("self"));
    assert.equal(upstream.roles[0]?.get("ExternalId"), "e2");
    const why = async (name: string) =>
      String((await failureOf(sampleRequest({ model }), { source: profile(name) })).facts.cause);
    assert.match(await why("none"), /"none" is not in AWS's files/);
    assert.match(await why("half"), /has no aws_access_key_id and aws_secret_access_key/);
    assert.match(await why("one"), /builds on itself/);
    assert.match(await why("sso"), /SSO and credential_process are not served/);
    assert.match(await why("bare"), /neither source_profile nor web_identity_token_file/);
  });

  test("the agent beside a container, and the machine's metadata service, after what is not there", async () => {
    const end = new Date(Date.now() + 3_600_000).toISOString();
    upstream.keys.set("ASIAPOD", { secret: "pod-secret", token: "pod-token" });
    const lent = { AccessKeyId: "ASIAPOD", SecretAccessKey: "pod-secret", Token: "pod-token", Expiration: end };
    const seen: string[] = [];
    const agent = createServer((req, res) => {
      seen.push(
        `${req.method} ${req.url} ${req.headers.authorization ?? req.headers["x-aws-ec2-metadata-token"] ?? ""}`,
      );
      if (req.method === "PUT") return void res.end("imds-token");
      if (req.url?.endsWith("/security-credentials/")) return void res.end("node-role");
      res.end(JSON.stringify(lent));
    });
    agent.listen(0, "127.0.0.1");
    await new Promise((resolve) => agent.once("listening", resolve));
    const url = `http://127.0.0.1:${(agent.address() as AddressInfo).port}`;
    await answers({ kind: "container", url: `${url}/v1/credentials`, token: { value: new Secret("agent-token") } });
    const missing = { kind: "profile", name: "default", credentialsFile: "/none", configFile: "/none" } as const;
    await answers({ kind: "first", of: [missing, { kind: "machine", url }] });
    assert.deepEqual(seen, [
      "GET /v1/credentials agent-token",
      "PUT /latest/api/token ",
      "GET /latest/meta-data/iam/security-credentials/ imds-token",
      "GET /latest/meta-data/iam/security-credentials/node-role imds-token",
    ]);
    agent.closeAllConnections();
    agent.close();
    const nothing = { kind: "first", of: [missing, { kind: "machine", url }] } as const;
    // The same sources are the same credentials; of others nothing is left.
    await answers(nothing);
    const gone = await failureOf(sampleRequest({ model }), {
      source: { kind: "first", of: [missing, { kind: "machine", url: "http://127.0.0.1:1" }] },
    });
    assert.equal(gone.code, "provider_auth_failed");
    assert.match(String(gone.facts.cause), /is not in AWS's files; /);
  });

  describe("fails", () => {
    const codeOf = async (status: number, type: string, message = "no") => {
      upstream.scripts.set("bad", (_call, res) => refuse(res, status, type, message));
      return (await failureOf(sampleRequest({ model: "bad" }))).code;
    };

    test("in the class of its error", async () => {
      assert.equal(await codeOf(429, "ThrottlingException"), "provider_rate_limited");
      assert.equal(await codeOf(429, "ModelNotReadyException"), "provider_unavailable");
      assert.equal(await codeOf(424, "ModelErrorException"), "provider_error");
      assert.equal(await codeOf(408, "ModelTimeoutException"), "provider_timeout");
      assert.equal(await codeOf(503, "ServiceUnavailableException"), "provider_unavailable");
      assert.equal(await codeOf(500, "InternalServerException"), "provider_error");
      assert.equal(await codeOf(404, "ResourceNotFoundException"), "provider_model_not_found");
      assert.equal(await codeOf(403, "AccessDeniedException"), "provider_auth_failed");
      assert.equal(await codeOf(403, "ExpiredTokenException"), "provider_auth_failed");
      assert.equal(await codeOf(400, "ServiceQuotaExceededException"), "provider_rate_limited");
      assert.equal(await codeOf(400, "ValidationException"), "provider_rejected");
      assert.equal(await codeOf(400, "ValidationException", "Input is too long."), "context_length_exceeded");
      const filtered = "Output blocked by content filtering policy";
      assert.equal(await codeOf(400, "ValidationException", filtered), "content_policy_violation");
    });

    test("in a stream that is cut, reset, broken or says so", async () => {
      const frames = textEvents();
      upstream.scripts.set("short", (_call, res) => sendEvents(res, frames.slice(0, 3)));
      upstream.scripts.set("said", (_call, res) =>
        sendEvents(res, [...frames.slice(0, 2), bedrockExceptionFrame("throttlingException", "slow down")]),
      );
      upstream.scripts.set("broken", (_call, res) => {
        const broken = Buffer.from(frames[2] ?? "");
        broken[broken.length - 6] = 0;
        return sendEvents(res, [...frames.slice(0, 2), broken]);
      });
      upstream.scripts.set("reset", async (_call, res) => {
        res.writeHead(200, { "content-type": "application/vnd.amazon.eventstream" });
        res.write(Buffer.concat(frames.slice(0, 2)));
        await new Promise((resolve) => setTimeout(resolve, 50));
        res.destroy();
      });
      const code = async (name: string) => (await failureOf(sampleRequest({ model: name, stream: true }))).code;
      assert.equal(await code("short"), "stream_interrupted");
      assert.equal(await code("reset"), "stream_interrupted");
      assert.equal(await code("broken"), "provider_error");
      assert.equal(await code("said"), "provider_rate_limited");
    });

    test("before anything is sent when the request is nested without end", async () => {
      const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
      // The HTTP doors take none so deep; what other doors take must not end a process either.
      const body = { model, messages: [{ role: "user", content: "x" }] };
      const chat = () => ({ ...body, own_field: JSON.parse(deep) });
      const failure = await failureOf({ ...sampleRequest(body), chat });
      assert.equal(failure.code, "invalid_request");
      assert.match(failure.message, /nested too deeply/);
      assert.equal(upstream.calls.length, 0);
    });

    test("before anything is sent when the request cannot be written", async () => {
      const url = { type: "image_url", image_url: { url: "https://example.com/a.png" } };
      const failure = await failureOf(sampleRequest({ model, messages: [{ role: "user", content: [url] }] }));
      assert.equal(failure.code, "invalid_request");
      assert.equal(upstream.calls.length, 0);
    });
  });
});
