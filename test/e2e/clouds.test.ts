import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import type { ChatCompletionMessageParam, ChatCompletionTool } from "openai/resources/chat/completions";
import {
  accessKey,
  BedrockUpstream,
  bedrockWords,
  refuse,
  region,
  sendConverse,
  sendEvents,
} from "../bedrock-upstream.ts";
import { bedrockEvent } from "../event-frame.ts";
import { GeminiUpstream, geminiWords, sendContent, sendError, sendPieces, studioKey } from "../gemini-upstream.ts";
import { Stack } from "./stack.ts";

/** What every answer of the scripted clouds costs, computed by hand from what they say they used. */
const bills = {
  // 11 tokens in, 4 of them cached; 73 out and 20 thought; the prices are the deployment's.
  studio: 7n * 1_000n + 4n * 250n + 73n * 2_000n + 20n * 3_000n,
  // The same, at the price table's figures for gemini-2.5-flash: $0.30, $0.03 and $2.50 a million.
  vertex: 7n * 300n + 4n * 30n + 93n * 2_500n,
  // 47 tokens in, 100 read from a cache, 20 written to it for minutes and 10 for an hour; 20 out.
  nova: 47n * 1_000n + 100n * 100n + 20n * 1_250n + 10n * 2_000n + 20n * 2_000n,
};
const models = Object.keys(bills) as (keyof typeof bills)[];
const words = { studio: geminiWords, vertex: geminiWords, nova: bedrockWords };

const modelList = (google: GeminiUpstream, aws: BedrockUpstream) => `
  - model_name: studio
    litellm_params:
      model: gemini/gemini-flash-test
      api_base: ${google.url}/v1beta
      api_key: os.environ/STUDIO_KEY
      input_cost_per_token: 0.000001
      cache_read_input_token_cost: 0.00000025
      output_cost_per_token: 0.000002
      output_cost_per_reasoning_token: 0.000003
  - model_name: vertex
    litellm_params:
      model: vertex_ai/gemini-2.5-flash
      api_base: ${google.url}/v1
      vertex_location: europe-west4
      vertex_credentials: os.environ/ACCOUNT_KEY
  - model_name: nova
    litellm_params:
      model: bedrock/${region}/amazon.nova-test-v1:0
      aws_bedrock_runtime_endpoint: ${aws.url}
      aws_access_key_id: ${accessKey.id}
      aws_secret_access_key: os.environ/AWS_TEST_SECRET
      aws_role_name: arn:aws:iam::1:role/llm
      input_cost_per_token: 0.000001
      cache_read_input_token_cost: 0.0000001
      cache_creation_input_token_cost: 0.00000125
      cache_creation_input_token_cost_above_1hr: 0.000002
      output_cost_per_token: 0.000002
  - model_name: vertex-claude
    litellm_params:
      model: vertex_ai/claude-sonnet-4-5
      api_base: ${google.url}/v1
      vertex_location: europe-west4
      vertex_credentials: os.environ/ACCOUNT_KEY
  - model_name: bedrock-claude
    litellm_params:
      model: bedrock/${region}/eu.anthropic.claude-sonnet-4-5-20250929-v1:0
      aws_bedrock_runtime_endpoint: ${aws.url}
      aws_access_key_id: ${accessKey.id}
      aws_secret_access_key: os.environ/AWS_TEST_SECRET
      aws_role_name: arn:aws:iam::1:role/llm
`;
const upstreamModel = { studio: "gemini-flash-test", vertex: "gemini-2.5-flash", nova: "amazon.nova-test-v1:0" };

const question: ChatCompletionMessageParam = { role: "user", content: "How is it in Boston?" };
const parameters = { type: "object", properties: { location: { type: "string" } }, required: ["location"] };
const weather: ChatCompletionTool = { type: "function", function: { name: "get_weather", parameters } };
const args = { location: "Boston" };

/** What of a request the tests look at. */
interface Sent {
  readonly messages: readonly object[];
  readonly contents: readonly object[];
  readonly inferenceConfig: object;
  readonly generationConfig: object;
}

describe("an unchanged OpenAI client reaches the clouds", () => {
  let google: GeminiUpstream;
  let aws: BedrockUpstream;
  let stack: Stack;
  before(async () => {
    [google, aws] = await Promise.all([GeminiUpstream.start(), BedrockUpstream.start()]);
    const env = {
      ...{ STUDIO_KEY: studioKey, ACCOUNT_KEY: google.accountKey, AWS_TEST_SECRET: accessKey.secret },
      AWS_ENDPOINT_URL_STS: `${aws.url}/sts`,
    };
    stack = await Stack.start({ sidecars: 1, models: modelList(google, aws), env });
  });
  after(async () => {
    await stack.close();
    await Promise.all([google.close(), aws.close()]);
  });

  const client = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${stack.sidecars[0]?.url}/v1`, maxRetries: 0 });
  const lastBody = (model: keyof typeof bills) =>
    (model === "nova" ? aws.calls : google.calls).at(-1)?.body as unknown as Sent;
  /** Has both clouds call a tool twice, whole or as a stream. */
  const scriptTools = () => {
    for (const model of ["gemini-flash-test", "gemini-2.5-flash"]) {
      google.scripts.set(model, (call, res) => {
        const parts = [
          { functionCall: { name: "get_weather", args }, thoughtSignature: "c2ln" },
          { functionCall: { name: "get_weather", args: {} } },
        ];
        if (!call.path.includes("stream")) return sendContent(res, parts);
        const pieces = parts.map((part) => ({ candidates: [{ content: { parts: [part] } }] }));
        return sendPieces(res, [...pieces, { candidates: [{ finishReason: "STOP" }], usageMetadata: usageOf(call) }]);
      });
    }
    aws.scripts.set("amazon.nova-test-v1:0", (call, res) => {
      const calls = [
        { toolUseId: "tooluse_1", name: "get_weather" },
        { toolUseId: "tooluse_2", name: "get_weather" },
      ];
      if (!call.path.endsWith("-stream")) {
        const content = calls.map((toolUse, index) => ({ toolUse: { ...toolUse, input: index === 0 ? args : {} } }));
        return sendConverse(res, content, "tool_use");
      }
      const start = (index: number) =>
        bedrockEvent("contentBlockStart", { contentBlockIndex: index, start: { toolUse: calls[index] } });
      const input = (text: string) =>
        bedrockEvent("contentBlockDelta", { contentBlockIndex: 0, delta: { toolUse: { input: text } } });
      const stop = (index: number) => bedrockEvent("contentBlockStop", { contentBlockIndex: index });
      return sendEvents(res, [
        ...[start(0), input('{"loca'), input('tion":"Boston"}'), stop(0), start(1), stop(1)],
        bedrockEvent("messageStop", { stopReason: "tool_use" }),
      ]);
    });
  };
  const usageOf = (_call: object) => ({ promptTokenCount: 1, candidatesTokenCount: 1 });
  const unscript = () => {
    google.scripts.clear();
    aws.scripts.clear();
  };

  for (const model of models) {
    test(`${model}: whole and as a stream, with the usage, and the books to the last cached token`, async () => {
      const key = await stack.generateKey({ max_budget: 1 });
      const whole = await client(key).chat.completions.create({ model, messages: [question] });
      const text = words[model].join("");
      assert.equal(whole.choices[0]?.message.content, text);
      assert.equal(whole.choices[0]?.finish_reason, "stop");
      const stream = await client(key).chat.completions.create({
        ...{ model, messages: [question], stream: true, stream_options: { include_usage: true } },
      });
      const texts: string[] = [];
      let usage: OpenAI.CompletionUsage | null | undefined;
      for await (const chunk of stream) {
        texts.push(chunk.choices[0]?.delta.content ?? "");
        usage = chunk.usage ?? usage;
      }
      assert.equal(texts.join(""), text);
      assert.deepEqual(usage, whole.usage);
      const rows = await stack.booked(key, 2);
      assert.deepEqual(
        rows.map(({ cost_nanos }) => String(cost_nanos)),
        [String(bills[model]), String(bills[model])],
      );
      assert.equal((await stack.spent(key)).spent, 2n * bills[model]);
    });

    test(`${model}: tools, parallel, streamed, and the conversation that goes on with what they said`, async () => {
      scriptTools();
      const api = client(await stack.generateKey({}));
      const ask = { model, messages: [question], tools: [weather], tool_choice: "required" as const };
      const whole = await api.chat.completions.create(ask);
      const message = whole.choices[0]?.message;
      assert.equal(whole.choices[0]?.finish_reason, "tool_calls");
      const argumentsOf = (calls: readonly OpenAI.ChatCompletionMessageToolCall[] | undefined) =>
        calls?.map((call) => (call.type === "function" ? JSON.parse(call.function.arguments) : call));
      assert.deepEqual(argumentsOf(message?.tool_calls), [args, {}]);
      const streamed = await api.chat.completions.stream(ask).finalChatCompletion();
      assert.equal(streamed.choices[0]?.finish_reason, "tool_calls");
      assert.deepEqual(argumentsOf(streamed.choices[0]?.message.tool_calls), [args, {}]);
      unscript();
      assert.ok(message !== undefined);
      const answers = (message.tool_calls ?? []).map(
        ({ id }) => ({ role: "tool", tool_call_id: id, content: "cold" }) as const,
      );
      await api.chat.completions.create({ ...ask, tool_choice: "auto", messages: [question, message, ...answers] });
      const sent = lastBody(model);
      if (model === "nova") {
        assert.deepEqual(sent.messages[2], {
          role: "user",
          content: ["tooluse_1", "tooluse_2"].map((toolUseId) => ({
            toolResult: { toolUseId, content: [{ text: "cold" }] },
          })),
        });
      } else {
        const response = { functionResponse: { name: "get_weather", response: { result: "cold" } } };
        assert.deepEqual(sent.contents[1], {
          role: "model",
          parts: [
            // The signature came back by way of the client.
            { functionCall: { name: "get_weather", args }, thoughtSignature: "c2ln" },
            { functionCall: { name: "get_weather", args: {} } },
          ],
        });
        assert.deepEqual(sent.contents[2], { role: "user", parts: [response, response] });
      }
    });

    test(`${model}: a picture, a document and a JSON schema arrive in its own words`, async () => {
      const api = client(await stack.generateKey({}));
      const content: OpenAI.ChatCompletionContentPart[] = [
        { type: "image_url", image_url: { url: "data:image/png;base64,AAEC" } },
        { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,AAEC" } },
        { type: "text", text: "What is it?" },
      ];
      await api.chat.completions.create({
        ...{ model, messages: [{ role: "user", content }], max_completion_tokens: 99 },
        response_format: { type: "json_schema", json_schema: { name: "w", schema: parameters } },
      });
      const sent = lastBody(model);
      if (model === "nova") {
        const source = { bytes: "AAEC" };
        assert.deepEqual(sent.messages[0], {
          role: "user",
          content: [
            { image: { format: "png", source } },
            { document: { format: "pdf", source, name: "a" } },
            { text: "What is it?" },
          ],
        });
        assert.deepEqual(sent.inferenceConfig, { maxTokens: 99 });
      } else {
        const inline = (mimeType: string) => ({ inlineData: { mimeType, data: "AAEC" } });
        assert.deepEqual(sent.contents, [
          { role: "user", parts: [inline("image/png"), inline("application/pdf"), { text: "What is it?" }] },
        ]);
        assert.deepEqual(sent.generationConfig, {
          ...{ maxOutputTokens: 99, responseMimeType: "application/json", responseJsonSchema: parameters },
        });
      }
    });

    test(`${model}: its errors are the client's own, and nothing of the gateway's credentials is in them`, async () => {
      const api = client(await stack.generateKey({}));
      const name = upstreamModel[model];
      const said = `Input is too long for ${studioKey} and AKIAIOSFODNN7EXAMPLE`;
      google.scripts.set(name, (_call, res) => sendError(res, 400, { message: said, status: "INVALID_ARGUMENT" }));
      aws.scripts.set(name, (_call, res) => refuse(res, 400, "ValidationException", said));
      const failed = async (fields: object = {}) => {
        try {
          await api.chat.completions.create({ model, messages: [question], ...fields });
        } catch (error) {
          assert.ok(error instanceof OpenAI.APIError, String(error));
          return error;
        }
        throw new Error("it did not fail");
      };
      const long = await failed();
      assert.equal(long.status, 400);
      assert.equal(long.code, "context_length_exceeded");
      assert.doesNotMatch(long.message, /AIza|AKIA/);
      google.scripts.set(name, (_call, res) => sendError(res, 429, { message: "quota", status: "RESOURCE_EXHAUSTED" }));
      aws.scripts.set(name, (_call, res) => refuse(res, 429, "ThrottlingException", "Too many requests"));
      assert.equal((await failed()).status, 429);
      const lacking = await failed({ logit_bias: { "1": 1 } });
      assert.deepEqual([lacking.status, lacking.param], [400, "logit_bias"]);
      unscript();
    });
  }

  test("tokens are counted by the clouds, and here for models that they do not count for", async () => {
    const api = new Anthropic({
      ...{ apiKey: await stack.generateKey({}), baseURL: stack.sidecars[0]?.url ?? "", maxRetries: 0 },
    });
    const count = async (model: string) => {
      const tool = { name: "look", description: "Looks.", input_schema: { type: "object" as const } };
      const messages = [{ role: "user" as const, content: "How is it in Boston?" }];
      return (await api.messages.countTokens({ model, messages, system: "Be kind.", tools: [tool] })).input_tokens;
    };
    assert.equal(await count("studio"), 42);
    assert.equal(google.calls.at(-1)?.path, "/v1beta/models/gemini-flash-test:countTokens");
    assert.equal(await count("vertex"), 43);
    assert.equal(await count("vertex-claude"), 44);
    const { path, body } = google.calls.at(-1) ?? assert.fail("nobody was asked");
    assert.match(path, /europe-west4\/publishers\/anthropic\/models\/count-tokens:rawPredict$/);
    assert.deepEqual([body.model, body.anthropic_version], ["claude-sonnet-4-5", "vertex-2023-10-16"]);
    assert.equal(await count("bedrock-claude"), 45);
    assert.equal(aws.calls.at(-1)?.path, "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens");
    const here = await count("nova");
    assert.ok(here > 10 && here < 60, String(here));
  });

  test("the secrets of the clouds are in no log", () => {
    const { output } = stack.sidecars[0]?.process ?? { output: "" };
    for (const secret of [studioKey, accessKey.secret, "PRIVATE KEY", "lent-secret", "lent&token", "ya29."]) {
      assert.equal(output.includes(secret), false, secret);
    }
  });

  test("roles and tokens were asked for once", () => {
    assert.equal(aws.roles.length, 1);
    assert.equal(google.asked.length, 1);
  });
});
