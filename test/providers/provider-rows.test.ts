import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { CompletionEvent } from "../../src/completion.ts";
import type { Deployment } from "../../src/config/config.ts";
import { providerRows } from "../../src/config/provider-rows.ts";
import { GatewayError } from "../../src/errors.ts";
import { ProviderHttp } from "../../src/providers/http.ts";
import { ProviderSet } from "../../src/providers/provider-set.ts";
import { configOf } from "../config/temporary.ts";
import { all, sampleRequest } from "../sample-call.ts";
import { Upstream, words } from "../upstream.ts";

type Context = Parameters<typeof configOf>[0];

/** By LiteLLM's prefix: where it is, the variable of its key, what the cap is called there, and a parameter it lacks, if any. */
const rows: Readonly<
  Record<string, readonly [base: string, keyVariable: string, cap: Deployment["outputCapField"], lacks?: string]>
> = {
  openai: ["https://api.openai.com/v1", "OPENAI_API_KEY", "max_completion_tokens"],
  cerebras: ["https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "max_completion_tokens", "logit_bias"],
  cohere: ["https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY", "max_tokens", "n"],
  cohere_chat: ["https://api.cohere.ai/compatibility/v1", "CO_API_KEY", "max_tokens", "n"],
  deepinfra: ["https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY", "max_tokens"],
  deepseek: ["https://api.deepseek.com", "DEEPSEEK_API_KEY", "max_tokens"],
  fireworks_ai: ["https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "max_tokens"],
  friendliai: ["https://api.friendli.ai/serverless/v1", "FRIENDLI_TOKEN", "max_tokens"],
  galadriel: ["https://api.galadriel.com/v1", "GALADRIEL_API_KEY", "max_tokens"],
  groq: ["https://api.groq.com/openai/v1", "GROQ_API_KEY", "max_completion_tokens", "logprobs"],
  llamafile: ["http://127.0.0.1:8080/v1", "LLAMAFILE_API_KEY", "max_tokens"],
  lm_studio: ["http://localhost:1234/v1", "LM_STUDIO_API_KEY", "max_tokens"],
  meta_llama: ["https://api.llama.com/compat/v1", "LLAMA_API_KEY", "max_tokens"],
  mistral: ["https://api.mistral.ai/v1", "MISTRAL_API_KEY", "max_tokens", "logit_bias"],
  moonshot: ["https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", "max_tokens", "functions"],
  nscale: ["https://inference.api.nscale.com/v1", "NSCALE_API_KEY", "max_tokens"],
  nvidia_nim: ["https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY", "max_tokens"],
  ollama: ["http://localhost:11434/v1", "OLLAMA_API_KEY", "max_tokens", "n"],
  ollama_chat: ["http://localhost:11434/v1", "OLLAMA_API_KEY", "max_tokens", "n"],
  openrouter: ["https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "max_tokens"],
  perplexity: ["https://api.perplexity.ai", "PERPLEXITYAI_API_KEY", "max_tokens", "seed"],
  sambanova: ["https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", "max_tokens", "n"],
  together_ai: ["https://api.together.xyz/v1", "TOGETHERAI_API_KEY", "max_tokens"],
  volcengine: ["https://ark.cn-beijing.volces.com/api/v3", "VOLCENGINE_API_KEY", "max_tokens"],
  xai: ["https://api.x.ai/v1", "XAI_API_KEY", "max_tokens", "logit_bias"],
};
/** Those that are wherever the operator runs them: the variable of the address, and of the key. */
const placeless: Readonly<Record<string, readonly [baseVariable: string, keyVariable: string]>> = {
  custom_openai: ["OPENAI_LIKE_API_BASE", "OPENAI_LIKE_API_KEY"],
  hosted_vllm: ["HOSTED_VLLM_API_BASE", "HOSTED_VLLM_API_KEY"],
  litellm_proxy: ["LITELLM_PROXY_API_BASE", "LITELLM_PROXY_API_KEY"],
  openai_like: ["OPENAI_LIKE_API_BASE", "OPENAI_LIKE_API_KEY"],
  vllm: ["VLLM_API_BASE", "VLLM_API_KEY"],
};
/** Those that take OpenAI's responses as well. */
const responding = ["openai", "xai", "litellm_proxy"];
const values: Readonly<Record<string, unknown>> = {
  n: 2,
  logprobs: true,
  seed: 7,
  logit_bias: { "1": 1 },
  functions: [{}],
};

test("every row that speaks OpenAI's wire is in the tables of this test", () => {
  const speaking = [...providerRows].filter(([, { wire, cloud }]) => wire === "openai-chat" && cloud === undefined);
  assert.deepEqual(speaking.map(([name]) => name).sort(), [...Object.keys(rows), ...Object.keys(placeless)].sort());
});

test("those that take OpenAI's responses are named here, and their operator may say otherwise", async (context) => {
  const names = [...Object.keys(rows), ...Object.keys(placeless)];
  for (const name of names) {
    const params = { model: `${name}/ok`, api_base: "http://127.0.0.1:9/v1", api_key: "sk-x" };
    const speaks = async (more: object, info: object = {}) =>
      (await deploymentOf(context, { ...params, ...more }, {}, info)).speaksResponses === true;
    assert.equal(await speaks({}), responding.includes(name), name);
    assert.equal(await speaks({ use_chat_completions_api: true }), false, name);
    const alone = [
      await deploymentOf(context, params, {}, { mode: "responses" }),
      await deploymentOf(context, { ...params, model: `${name}/responses/ok` }, {}),
    ];
    for (const { lacksChat, speaksResponses, model } of alone) {
      assert.deepEqual([lacksChat, speaksResponses, model.split("/").at(-1)], [true, true, "ok"], name);
      assert.ok(!model.startsWith("responses/"), name);
    }
    assert.equal(await speaks({}, { supported_endpoints: ["/v1/chat/completions", "/v1/responses"] }), true, name);
  }
});

async function deploymentOf(
  context: Context,
  params: object,
  env: Record<string, string>,
  info: object = {},
): Promise<Deployment> {
  const yaml = JSON.stringify({ model_list: [{ model_name: "m", litellm_params: params, model_info: info }] });
  const deployment = (await configOf(context, yaml, env)).modelGroups.get("m")?.[0];
  assert.ok(deployment !== undefined, JSON.stringify(params));
  return deployment;
}

describe("a provider that merely speaks OpenAI's wire", () => {
  let upstream: Upstream;
  let http: ProviderHttp;
  before(async () => {
    upstream = await Upstream.start();
    const ok = upstream.scripts.get("ok");
    if (ok !== undefined) upstream.scripts.set("accounts/fireworks/models/ok", ok);
    http = new ProviderHttp({ clock: systemClock });
  });
  after(async () => {
    await http.close();
    await upstream.close();
  });

  const call = (deployment: Deployment, fields: object): Promise<CompletionEvent[]> =>
    all(
      new ProviderSet({ http, clock: systemClock }).of(deployment).complete({
        ...{ request: sampleRequest(fields), deployment, outputTokensMax: undefined, traceparent: undefined },
        ...{ timeoutMs: 5_000, idleTimeoutMs: 5_000, signal: new AbortController().signal },
      }),
    );
  const sent = () => {
    const { headers, path, body } = upstream.calls.at(-1) ?? assert.fail();
    return { headers, path, body: JSON.parse(body) as Record<string, unknown> };
  };
  const usageOf = (events: CompletionEvent[]) => {
    const end = events.at(-1);
    return end?.type === "end" ? [end.usage?.inputTokens, end.usage?.outputTokens] : undefined;
  };

  for (const [name, [base, keyVariable, cap, lacks]] of Object.entries(rows)) {
    test(`${name}: is found, called, streamed from, and not told what it lacks`, async (context) => {
      const home = await deploymentOf(context, { model: `${name}/ok` }, { [keyVariable]: "sk-its-own" });
      assert.deepEqual([home.apiBase, home.provider, home.apiKey?.reveal()], [base, name, "sk-its-own"]);
      // The same, but for where it is.
      const deployment = { ...home, apiBase: upstream.baseUrl };
      assert.deepEqual(usageOf(await call(deployment, { max_tokens: 50 })), [10, words.length]);
      const { headers, path, body } = sent();
      assert.deepEqual([path, headers.authorization], ["/v1/chat/completions", "Bearer sk-its-own"]);
      assert.equal(body.model, name === "fireworks_ai" ? "accounts/fireworks/models/ok" : "ok");
      assert.deepEqual(
        [body.max_tokens, body.max_completion_tokens],
        cap === "max_tokens" ? [50, undefined] : [undefined, 50],
      );
      await call(deployment, { stream: true, stream_options: { include_usage: true } });
      assert.deepEqual(sent().body.stream_options, name === "mistral" ? undefined : { include_usage: true });
      if (lacks === undefined) return;
      const fields = { [lacks]: values[lacks] };
      await assert.rejects(
        call(deployment, fields),
        (error) => error instanceof GatewayError && error.facts.param === lacks,
      );
      await call({ ...deployment, params: { ...deployment.params, drops: true } }, fields);
      assert.equal(sent().body[lacks], undefined);
    });
  }

  for (const [name, [baseVariable, keyVariable]] of Object.entries(placeless)) {
    test(`${name}: is where the environment says, with the environment's key`, async (context) => {
      const env = { [baseVariable]: upstream.baseUrl, [keyVariable]: "sk-its-own" };
      const deployment = await deploymentOf(context, { model: `${name}/ok` }, env);
      assert.deepEqual(usageOf(await call(deployment, {})), [10, words.length]);
      assert.equal(sent().headers.authorization, "Bearer sk-its-own");
    });
  }

  test("the environment may name another address, and its key goes there, but to no other", async (context) => {
    const env = { GROQ_API_BASE: upstream.baseUrl, GROQ_API_KEY: "sk-its-own" };
    const moved = await deploymentOf(context, { model: "groq/ok" }, env);
    assert.deepEqual([moved.apiBase, moved.apiKey?.reveal()], [upstream.baseUrl, "sk-its-own"]);
    const other = await deploymentOf(context, { model: "groq/ok", api_base: upstream.baseUrl }, env);
    assert.equal(other.apiKey, undefined);
  });

  test("a server of one's own needs no key, and Ollama's address no /v1", async (context) => {
    const root = upstream.baseUrl.replace(/\/v1$/, "");
    const deployment = await deploymentOf(context, { model: "ollama/ok", api_base: root }, {});
    assert.deepEqual(usageOf(await call(deployment, {})), [10, words.length]);
    assert.deepEqual([sent().path, sent().headers.authorization], ["/v1/chat/completions", undefined]);
    assert.equal((await deploymentOf(context, { model: "ollama_chat/ok" }, {})).apiKey, undefined);
  });

  test("Mistral's seed has another name", async (context) => {
    const home = await deploymentOf(context, { model: "mistral/ok", api_key: "k" }, {});
    await call({ ...home, apiBase: upstream.baseUrl }, { seed: 7 });
    assert.deepEqual([sent().body.seed, sent().body.random_seed], [undefined, 7]);
  });

  test("whose a model is is told by its bare name", async (context) => {
    const env = Object.fromEntries(["OPENAI", "ANTHROPIC", "COHERE"].map((name) => [`${name}_API_KEY`, "k"]));
    const names = {
      ...{ "gpt-4o-mini": "openai", "o4-mini": "openai", "text-embedding-3-small": "openai", "dall-e-3": "openai" },
      ...{
        "whisper-1": "openai",
        "tts-1": "openai",
        "omni-moderation-latest": "openai",
        "ft:gpt-4o:acme::1": "openai",
      },
      ...{ "claude-sonnet-4-5": "anthropic", "gemini-2.5-pro": "vertex_ai", "command-r-plus": "cohere_chat" },
      ...{ "anthropic.claude-3-haiku-20240307-v1:0": "bedrock", "us.amazon.nova-pro-v1:0": "bedrock" },
    };
    for (const [model, provider] of Object.entries(names)) {
      assert.equal(
        (await deploymentOf(context, { model }, { ...env, AWS_REGION: "us-east-1" })).provider,
        provider,
        model,
      );
    }
  });
});
