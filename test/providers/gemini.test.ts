import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, describe, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { CompletionEvent, CompletionRequest } from "../../src/completion.ts";
import type { GoogleAccess, GoogleAccount } from "../../src/config/cloud-access.ts";
import type { Deployment } from "../../src/config/config.ts";
import { GatewayError, type ProviderFailure } from "../../src/errors.ts";
import { ProviderHttp } from "../../src/providers/http.ts";
import { ProviderSet } from "../../src/providers/provider-set.ts";
import { Secret } from "../../src/secret.ts";
import { framesOf, messageFor } from "../anthropic-upstream.ts";
import { GeminiUpstream, geminiWords, sendError, sendPieces, studioKey, textPieces } from "../gemini-upstream.ts";
import { all, sampleDeployment, sampleRequest } from "../sample-call.ts";
import { joined } from "../wires/reading.ts";

const usage = {
  ...{
    inputTokens: 11,
    outputTokens: 93,
    cacheReadInputTokens: 4,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: 20,
  },
  estimated: false,
};

describe("Gemini", () => {
  let upstream: GeminiUpstream;
  let http: ProviderHttp;
  let providers: ProviderSet;
  const directory = mkdtempSync(join(tmpdir(), "tollgate-google-"));
  beforeEach(async () => {
    upstream = await GeminiUpstream.start();
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
    facts: Partial<Deployment> = {},
    signal = new AbortController().signal,
  ): AsyncIterable<CompletionEvent> => {
    const studio = { wire: "gemini", provider: "gemini", apiBase: `${upstream.url}/v1beta` } as const;
    const deployment = sampleDeployment({ ...studio, apiKey: new Secret(studioKey), model: request.model, ...facts });
    return providers.of(deployment).complete({
      ...{ request, deployment, signal },
      outputTokensMax: undefined,
      traceparent: undefined,
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
  const cloud = (account: GoogleAccount, project: string | undefined = undefined): Partial<Deployment> => {
    const access: GoogleAccess = { cloud: "google", project, location: "europe-west4", account };
    return { provider: "vertex_ai", apiBase: `${upstream.url}/v1`, apiKey: undefined, access };
  };
  const json = (key: string): GoogleAccount => ({ kind: "json", json: new Secret(key) });

  test("answers whole and as a stream, and says what it used", async () => {
    for (const stream of [false, true]) {
      const events = await all(complete(sampleRequest({ model: "gemini-2.5-flash", stream })));
      const { text, reasoning, reason, end } = joined(events);
      assert.deepEqual([text, reasoning, reason], [geminiWords.join(""), "Hm.", "stop"]);
      assert.deepEqual(end?.usage, usage);
    }
    assert.deepEqual(
      upstream.calls.map(({ path }) => path),
      [
        "/v1beta/models/gemini-2.5-flash:generateContent",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
      ],
    );
  });

  test("a service account's token opens the cloud, is fetched once however many want it, and once more before it ends", async () => {
    const facts = cloud(json(upstream.accountKey));
    const ask = () => all(complete(sampleRequest({ model: "gemini-2.5-pro" }), facts));
    await Promise.all(Array.from({ length: 8 }, ask));
    assert.equal(upstream.asked.length, 1);
    // Compiled anew, as after a change of the configuration, it is still the same account.
    await all(complete(sampleRequest({ model: "123456" }), cloud(json(upstream.accountKey))));
    assert.equal(upstream.asked.length, 1);
    assert.equal(
      upstream.calls.at(-1)?.path,
      "/v1/projects/test-project/locations/europe-west4/endpoints/123456:generateContent",
    );
    const path =
      "/v1/projects/test-project/locations/europe-west4/publishers/google/models/gemini-2.5-pro:generateContent";
    assert.equal(upstream.calls[0]?.path, path);
  });

  test("a key in a file, a user's, and the machine's own account", async () => {
    const path = join(directory, "key.json");
    writeFileSync(path, upstream.accountKey);
    const user = { client_id: "c", client_secret: "s", refresh_token: "r", token_uri: `${upstream.url}/token` };
    const accounts: GoogleAccount[] = [
      { kind: "file", path },
      json(JSON.stringify({ type: "authorized_user", ...user, quota_project_id: "test-project" })),
      { kind: "machine", url: upstream.url },
    ];
    for (const account of accounts) {
      const events = await all(complete(sampleRequest({ model: "gemini-2.5-pro" }), cloud(account)));
      assert.equal(joined(events).text, geminiWords.join(""));
    }
    const [, refreshed] = upstream.asked;
    assert.ok(refreshed instanceof URLSearchParams);
    assert.equal(refreshed.get("grant_type"), "refresh_token");
  });

  test("Claude in the cloud: Anthropic's wire, whole and as a stream, with the model in the path", async () => {
    upstream.scripts.set("claude-sonnet-4-5@20250929", (call, res) => {
      const message = { ...messageFor(call.body), model: "claude-sonnet-4-5-20250929" };
      if (!call.path.endsWith(":streamRawPredict")) {
        res.writeHead(200, { "content-type": "application/json" });
        return void res.end(JSON.stringify(message));
      }
      res.writeHead(200, { "content-type": "text/event-stream" });
      res.end(framesOf(message).join(""));
    });
    const facts = { ...cloud(json(upstream.accountKey)), wire: "anthropic-messages" as const };
    for (const stream of [false, true]) {
      const events = await all(complete(sampleRequest({ model: "claude-sonnet-4-5@20250929", stream }), facts));
      assert.match(joined(events).text, /^Hello wörld\./);
      assert.equal(joined(events).end?.usage?.outputTokens, 7);
      const call = upstream.calls.at(-1);
      assert.match(
        call?.path ?? "",
        /\/publishers\/anthropic\/models\/claude-sonnet-4-5%4020250929:(stream)?[rR]awPredict$/,
      );
      assert.equal(call?.body.anthropic_version, "vertex-2023-10-16");
      assert.equal("model" in (call?.body ?? {}), false);
      assert.equal(call?.headers["x-api-key"], undefined);
    }
  });

  test("another identity provider's token in a file is exchanged", async () => {
    const file = join(directory, "token");
    writeFileSync(file, '{"access":"outside-token"}');
    const key = {
      ...{
        type: "external_account",
        audience: "//iam.googleapis.com/projects/1/x",
        token_url: `${upstream.url}/token`,
      },
      subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
      credential_source: { file, format: { type: "json", subject_token_field_name: "access" } },
    };
    const path = join(directory, "external.json");
    writeFileSync(path, JSON.stringify(key));
    await all(complete(sampleRequest({ model: "gemini-2.5-pro" }), cloud({ kind: "file", path }, "test-project")));
    const [asked] = upstream.asked;
    assert.ok(asked instanceof URLSearchParams);
    assert.equal(asked.get("subject_token"), "outside-token");
    // Whoever writes the configuration could else have any file of the pod sent anywhere.
    const text = await failureOf(sampleRequest({ model: "g" }), cloud(json(JSON.stringify(key)), "test-project"));
    assert.match(String(text.facts.cause), /only in a file/);
  });

  test("keys that are none, and a token endpoint that refuses or is away, are told from each other without being quoted", async () => {
    const why = async (account: GoogleAccount) => {
      const failure = await failureOf(sampleRequest({ model: "gemini-2.5-pro" }), cloud(account, "p"));
      assert.equal((failure as ProviderFailure).billable, false);
      return `${failure.code}: ${String(failure.facts.cause)}`;
    };
    assert.match(await why(json("{")), /^provider_auth_failed: .*not a JSON object/);
    assert.match(await why({ kind: "file", path: join(directory, "none") }), /none cannot be read: ENOENT/);
    assert.match(await why(json('{"type":"service_account","client_email":"a"}')), /private_key is missing/);
    const broken = { type: "service_account", client_email: "a", private_key: "secret-key-text" };
    const text = await why(json(JSON.stringify(broken)));
    assert.match(text, /private_key cannot be read/);
    assert.doesNotMatch(text, /secret-key-text/);
    const metadata = { ...JSON.parse(upstream.accountKey), token_uri: "http://169.254.169.254/token" };
    assert.match(await why(json(JSON.stringify(metadata))), /token_uri is no address that may be called/);
    const other = { ...JSON.parse(upstream.accountKey), client_email: "other@x" };
    assert.match(await why(json(JSON.stringify(other))), /^provider_auth_failed: .*another account/);
    upstream.tokenStatus = 503;
    assert.match(await why(json(upstream.accountKey)), /^provider_unavailable/);
  });

  describe("fails", () => {
    const scripted = async (status: number, error: object, stream = false) => {
      upstream.scripts.set("bad", (_call, res) => {
        if (!stream) return sendError(res, status, error);
        res.writeHead(status, { "content-type": "application/json" });
        res.end(JSON.stringify([{ error: { code: status, ...error } }]));
      });
      return failureOf(sampleRequest({ model: "bad", stream }));
    };

    test("in the class of its error, whole or as a stream", async () => {
      const tooLong = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
      for (const stream of [false, true]) {
        const long = await scripted(400, { message: tooLong, status: "INVALID_ARGUMENT" }, stream);
        assert.equal(long.code, "context_length_exceeded");
        assert.equal(long.message, tooLong);
        const odd = await scripted(400, { message: "Invalid value at 'x'", status: "INVALID_ARGUMENT" }, stream);
        assert.equal(odd.code, "provider_rejected");
      }
      assert.equal((await scripted(403, { message: "no", status: "PERMISSION_DENIED" })).code, "provider_auth_failed");
      assert.equal((await scripted(404, { message: "no", status: "NOT_FOUND" })).code, "provider_model_not_found");
      assert.equal((await scripted(500, { message: "no", status: "INTERNAL" })).code, "provider_error");
      assert.equal((await scripted(503, { message: "no", status: "UNAVAILABLE" })).code, "provider_unavailable");
      assert.equal((await scripted(504, { message: "no", status: "DEADLINE_EXCEEDED" })).code, "provider_timeout");
    });

    test("with the wait that a 429 asks for in its body", async () => {
      const details = [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "34.5s" }];
      const limited = await scripted(429, { message: "quota", status: "RESOURCE_EXHAUSTED", details });
      assert.equal(limited.code, "provider_rate_limited");
      assert.equal(limited.facts.retryAfterMs, 34_500);
    });

    test("when the key is wrong, as the operator's fault, though the status is 400", async () => {
      const failure = await failureOf(sampleRequest({ model: "g" }), { apiKey: new Secret("AIzaWrong") });
      assert.equal(failure.code, "provider_auth_failed");
    });

    test("in a stream that is cut, reset or says so", async () => {
      upstream.scripts.set("short", (_call, res) => sendPieces(res, textPieces().slice(0, 3)));
      upstream.scripts.set("reset", async (_call, res) => {
        res.writeHead(200, { "content-type": "text/event-stream" });
        res.write(`data: ${JSON.stringify(textPieces()[1])}\n\n`);
        await new Promise((resolve) => setTimeout(resolve, 50));
        res.destroy();
      });
      upstream.scripts.set("said", (_call, res) =>
        sendPieces(res, [...textPieces().slice(0, 2), { error: { code: 503, status: "UNAVAILABLE" } }]),
      );
      const codeOf = async (model: string) => (await failureOf(sampleRequest({ model, stream: true }))).code;
      assert.equal(await codeOf("short"), "stream_interrupted");
      assert.equal(await codeOf("reset"), "stream_interrupted");
      assert.equal(await codeOf("said"), "provider_unavailable");
    });
  });

  test("a caller that goes away cuts the upstream", async () => {
    upstream.scripts.set("endless", async (call, res) => {
      res.writeHead(200, { "content-type": "text/event-stream" });
      while (!call.aborted) {
        res.write(`data: ${JSON.stringify(textPieces()[1])}\n\n`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    });
    for await (const event of complete(sampleRequest({ model: "endless", stream: true }))) {
      if (event.type === "delta") break;
    }
    for (let waited = 0; upstream.calls[0]?.aborted !== true && waited < 2_000; waited += 10) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(upstream.calls[0]?.aborted, true);
  });
});
