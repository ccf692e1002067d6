import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { CompletionRequest } from "../../src/completion.ts";
import type { Deployment } from "../../src/config/config.ts";
import { GatewayError, ProviderFailure } from "../../src/errors.ts";
import { ProviderHttp } from "../../src/providers/http.ts";
import { ProviderSet } from "../../src/providers/provider-set.ts";
import { decodeResponsesRequest } from "../../src/wires/responses-body.ts";
import { configOf, folderWith, loadText } from "../config/temporary.ts";
import { all, sampleRequest } from "../sample-call.ts";

type Context = Parameters<typeof configOf>[0];
type Env = Record<string, string>;

const answer = JSON.stringify({ id: "c1", choices: [], output: [], usage: { prompt_tokens: 3, completion_tokens: 4 } });

/** Azure: models by deployment, and Microsoft's identity service beside them. */
class AzureUpstream {
  readonly calls: { url: string; key: unknown; authorization: unknown; body: string }[] = [];
  readonly tokensAsked: Record<string, string>[] = [];
  tokenStatus = 200;
  readonly #server: Server = createServer(async (req, res) => {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces).toString();
    const url = req.url ?? "";
    res.setHeader("content-type", "application/json");
    if (url.endsWith("/oauth2/v2.0/token")) {
      this.tokensAsked.push({ url, ...Object.fromEntries(new URLSearchParams(body)) });
      res.statusCode = this.tokenStatus;
      res.end(
        this.tokenStatus === 200
          ? JSON.stringify({ token_type: "Bearer", expires_in: 3599, access_token: `token-${this.tokensAsked.length}` })
          : JSON.stringify({ error: "invalid_client", error_description: "the secret S3cret~value is wrong" }),
      );
      return;
    }
    this.calls.push({ url, key: req.headers["api-key"], authorization: req.headers.authorization, body });
    res.end(answer);
  });

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

describe("a deployment in Azure", () => {
  const azure = new AzureUpstream();
  let http: ProviderHttp;
  let providers: ProviderSet;
  before(() => azure.start());
  beforeEach(() => {
    http = new ProviderHttp({ clock: systemClock });
    providers = new ProviderSet({ http, clock: systemClock });
    azure.calls.length = 0;
    azure.tokensAsked.length = 0;
    azure.tokenStatus = 200;
  });
  after(async () => {
    await http.close();
    await azure.close();
  });

  const yamlOf = (params: object) => JSON.stringify({ model_list: [{ model_name: "m", litellm_params: params }] });
  const deploymentOf = async (context: Context, params: object, env: Env = {}): Promise<Deployment> => {
    const deployment = (await configOf(context, yamlOf(params), env)).modelGroups.get("m")?.[0];
    return deployment ?? assert.fail("it is left out");
  };
  const reasonOf = async (context: Context, params: object, env: Env = {}): Promise<string> => {
    const loaded = await loadText(context, yamlOf(params), env);
    assert.ok(loaded.ok);
    assert.equal(loaded.config.modelGroups.get("m"), undefined);
    return loaded.config.notices.map(({ path, message }) => `${path}: ${message}`).join("\n");
  };
  const call = (deployment: Deployment, fields: object = {}) => send(deployment, sampleRequest(fields));
  const send = async (deployment: Deployment, request: CompletionRequest) => {
    await all(
      providers.of(deployment).complete({
        ...{ request, deployment, outputTokensMax: undefined, traceparent: undefined },
        ...{ timeoutMs: 5_000, idleTimeoutMs: 5_000, signal: new AbortController().signal },
      }),
    );
    return azure.calls.at(-1) ?? assert.fail();
  };

  test("is in the path, with the version in the query and the key in a header of its own", async (context) => {
    const params = {
      model: "azure/my gpt",
      api_base: `${azure.url}/`,
      api_version: "2024-10-21",
      api_key: "azure-key",
    };
    const sent = await call(await deploymentOf(context, params), { max_tokens: 50 });
    assert.equal(sent.url, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21");
    assert.deepEqual([sent.key, sent.authorization], ["azure-key", undefined]);
    assert.deepEqual(JSON.parse(sent.body).max_completion_tokens, 50);
  });

  test("has the environment's address, key and version where it has none", async (context) => {
    const env = { AZURE_API_BASE: azure.url, AZURE_API_KEY: "azure-key", AZURE_API_VERSION: "2024-02-01" };
    const sent = await call(await deploymentOf(context, { model: "azure/gpt" }, env), { max_tokens: 50 });
    assert.equal(sent.url, "/openai/deployments/gpt/chat/completions?api-version=2024-02-01");
    assert.equal(sent.key, "azure-key");
    assert.equal(JSON.parse(sent.body).max_tokens, 50, "older versions have no max_completion_tokens");
  });

  test("has no path and no version at the newer address", async (context) => {
    const params = { model: "azure/gpt", api_base: `${azure.url}/openai/v1/`, api_key: "azure-key" };
    const sent = await call(await deploymentOf(context, params));
    assert.deepEqual([sent.url, JSON.parse(sent.body).model], ["/openai/v1/chat/completions", "gpt"]);
  });

  test("takes responses at the newer address and from the version on that has them, else is asked by chat", async (context) => {
    const request = decodeResponsesRequest(Buffer.from(JSON.stringify({ model: "m", input: "Hello" })));
    assert.ok(!(request instanceof GatewayError));
    const urlAt = async (params: object) => {
      const sent = await send(
        await deploymentOf(context, { model: "azure/gpt", api_base: azure.url, api_key: "azure-key", ...params }),
        request,
      );
      assert.equal(sent.key, "azure-key");
      return sent.url;
    };
    const [old, dated] = ["2025-02-01-preview", "2025-03-01-preview"];
    assert.equal(await urlAt({ api_version: dated }), `/openai/responses?api-version=${dated}`);
    assert.equal(await urlAt({ api_base: `${azure.url}/openai/v1` }), "/openai/v1/responses");
    assert.equal(await urlAt({ api_version: old }), `/openai/deployments/gpt/chat/completions?api-version=${old}`);
    const chatting = await urlAt({ api_version: dated, use_chat_completions_api: true });
    assert.equal(chatting, `/openai/deployments/gpt/chat/completions?api-version=${dated}`);
  });

  test("is asked about a stored response without the model in the path", async (context) => {
    const params = { model: "azure/gpt", api_base: azure.url, api_key: "azure-key", api_version: "2025-04-01" };
    const deployment = await deploymentOf(context, params);
    const query = new URLSearchParams({ include: "x" });
    const { signal } = new AbortController();
    await providers.of(deployment).stored?.({ deployment, method: "GET", path: "/resp_1", query, signal });
    const { url, key } = azure.calls.at(-1) ?? assert.fail();
    assert.deepEqual([url, key], ["/openai/responses/resp_1?api-version=2025-04-01&include=x", "azure-key"]);
  });

  test("is called with a token for its application's secret, which is asked for once", async (context) => {
    const params = {
      ...{ model: "azure/gpt", api_base: azure.url },
      ...{ tenant_id: "tenant", client_id: "app", client_secret: "S3cret~value" },
    };
    const deployment = await deploymentOf(context, params, { AZURE_AUTHORITY_HOST: azure.url });
    const sent = await Promise.all([call(deployment), call(deployment)]);
    assert.deepEqual(
      sent.map(({ key, authorization }) => [key, authorization]),
      [
        [undefined, "Bearer token-1"],
        [undefined, "Bearer token-1"],
      ],
    );
    assert.deepEqual(azure.tokensAsked, [
      {
        url: "/tenant/oauth2/v2.0/token",
        grant_type: "client_credentials",
        client_id: "app",
        client_secret: "S3cret~value",
        scope: "https://cognitiveservices.azure.com/.default",
      },
    ]);
  });

  test("is called with a token for the pod's own identity, whose file the environment names", async (context) => {
    const folder = await folderWith(context, { token: "federated\n" });
    const env = {
      ...{
        AZURE_API_BASE: azure.url,
        AZURE_AUTHORITY_HOST: azure.url,
        AZURE_TENANT_ID: "tenant",
        AZURE_CLIENT_ID: "app",
      },
      AZURE_FEDERATED_TOKEN_FILE: `${folder}/token`,
    };
    const sent = await call(await deploymentOf(context, { model: "azure/gpt" }, env));
    assert.equal(sent.authorization, "Bearer token-1");
    const { client_assertion, client_secret } = azure.tokensAsked[0] ?? {};
    assert.deepEqual([client_assertion, client_secret], ["federated", undefined]);
  });

  test("is called with a token that is given", async (context) => {
    const params = { model: "azure/gpt", api_base: azure.url, azure_ad_token: "given" };
    const sent = await call(await deploymentOf(context, params, { AZURE_API_KEY: "not-this" }));
    assert.deepEqual([sent.key, sent.authorization], [undefined, "Bearer given"]);
  });

  test("fails as the provider's own refusal when there is no token, without the secret in the message", async (context) => {
    azure.tokenStatus = 401;
    const params = {
      ...{ model: "azure/gpt", api_base: azure.url },
      ...{ tenant_id: "tenant", client_id: "app", client_secret: "S3cret~value" },
    };
    const deployment = await deploymentOf(context, params, { AZURE_AUTHORITY_HOST: azure.url });
    await assert.rejects(call(deployment), (error) => {
      assert.ok(error instanceof ProviderFailure);
      assert.deepEqual([error.code, error.billable], ["provider_auth_failed", false]);
      assert.doesNotMatch(error.message, /S3cret/);
      return true;
    });
    assert.equal(azure.calls.length, 0);
  });

  test("is left out with what is missing", async (context) => {
    assert.match(
      await reasonOf(context, { model: "azure/gpt", api_key: "k" }),
      /api_base: no address is known.*AZURE_API_BASE/,
    );
    const there = { model: "azure/gpt", api_base: azure.url };
    assert.match(await reasonOf(context, there), /api_key: it has no credentials.*AZURE_API_KEY/);
    assert.match(
      await reasonOf(context, { ...there, client_secret: "s", client_id: "c" }),
      /tenant_id: .*AZURE_TENANT_ID/,
    );
    const unset = await reasonOf(context, { ...there, client_secret: "os.environ/NOBODY_SET" }, { AZURE_API_KEY: "k" });
    assert.match(unset, /client_secret: neither NOBODY_SET nor NOBODY_SET_FILE is set/);
  });

  test("of AI Foundry is a model beside others, or a server of its own", async (context) => {
    const foundry = { model: "azure_ai/Phi-4", api_base: "https://x.services.ai.azure.com", api_key: "k" };
    const beside = await deploymentOf(context, foundry);
    assert.equal(beside.apiBase, "https://x.services.ai.azure.com/models");
    const sent = await call({ ...beside, apiBase: `${azure.url}/models` });
    assert.deepEqual([sent.url, sent.key], ["/models/chat/completions?api-version=2024-05-01-preview", "k"]);
    assert.equal(JSON.parse(sent.body).model, "Phi-4");
    const alone = await call(await deploymentOf(context, { ...foundry, api_base: azure.url }));
    assert.deepEqual([alone.url, alone.key, alone.authorization], ["/chat/completions", undefined, "Bearer k"]);
  });
});
