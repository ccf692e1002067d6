import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ParamPolicy } from "../../src/config/param-policy.ts";
import { ProviderFailure } from "../../src/errors.ts";
import { encodeBedrockRequest } from "../../src/wires/bedrock-chat.ts";
import { sampleRequest } from "../sample-call.ts";

const claude = "anthropic.claude-sonnet-4-5-20250929-v1:0";
const plain: ParamPolicy = { lacks: new Set(["seed", "n"]), drops: false, leavesOut: [], modifies: false };

function encode(fields: object, options: { model?: string; cap?: number; drops?: boolean } = {}) {
  const { model = claude, cap, drops = false } = options;
  const target = { model, outputTokensMax: cap, provider: "bedrock", params: { ...plain, drops } };
  return JSON.parse(encodeBedrockRequest(sampleRequest(fields), target).toString());
}

function refused(fields: object, options?: Parameters<typeof encode>[1]): ProviderFailure {
  try {
    encode(fields, options);
  } catch (error) {
    assert.ok(error instanceof ProviderFailure, String(error));
    assert.equal(error.code, "invalid_request");
    assert.equal(error.billable, false);
    return error;
  }
  throw new Error("it was not refused");
}

const topSong = {
  name: "top_song",
  description: "Get the most popular song played on a radio station.",
  parameters: {
    type: "object",
    properties: { sign: { type: "string", description: "The call sign for the radio station" } },
    required: ["sign"],
  },
};
const question = { role: "user", content: "What is the most popular song on WZPZ?" };

describe("a chat written for Bedrock", () => {
  test("AWS's example of a tool: its request, and the one that brings back what the tool said", () => {
    const tools = [{ type: "function", function: topSong }];
    const { description, name, parameters } = topSong;
    const toolConfig = { tools: [{ toolSpec: { name, description, inputSchema: { json: parameters } } }] };
    const asked = { role: "user", content: [{ text: question.content }] };
    assert.deepEqual(encode({ messages: [question], tools }), { messages: [asked], toolConfig });
    const id = "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q";
    const call = { id, type: "function", function: { name, arguments: '{"sign":"WZPZ"}' } };
    const messages = [
      question,
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: id, content: "Elemental Hotel" },
    ];
    assert.deepEqual(encode({ messages, tools }).messages, [
      asked,
      { role: "assistant", content: [{ toolUse: { toolUseId: id, name, input: { sign: "WZPZ" } } }] },
      { role: "user", content: [{ toolResult: { toolUseId: id, content: [{ text: "Elemental Hotel" }] } }] },
    ]);
    // Without the tools Bedrock would refuse the conversation.
    assert.deepEqual(encode({ messages }).toolConfig, {
      tools: [{ toolSpec: { name, inputSchema: { json: { type: "object" } } } }],
    });
  });

  test("system messages from anywhere go to the head, and neighbours of one side become one message", () => {
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "One" },
      { role: "user", content: [{ type: "text", text: "Two" }] },
      { role: "developer", content: "Rhyme." },
      { role: "assistant", content: "Three" },
    ];
    assert.deepEqual(encode({ messages }), {
      system: [{ text: "Be brief." }, { text: "Rhyme." }],
      messages: [
        { role: "user", content: [{ text: "One" }, { text: "Two" }] },
        { role: "assistant", content: [{ text: "Three" }] },
      ],
    });
    const orders = encode({ messages: [{ role: "system", content: "Say hello." }] });
    assert.deepEqual(orders, { messages: [{ role: "user", content: [{ text: "Say hello." }] }] });
  });

  test("parallel calls and their answers stand together, a failed one's emptiness included", () => {
    const calls = ["a", "b"].map((id) => ({ id, type: "function", function: { name: "f", arguments: "" } }));
    const messages = [
      question,
      { role: "assistant", content: "Let me see.", tool_calls: calls },
      { role: "tool", tool_call_id: "a", content: [{ type: "text", text: "1" }, image("image/png")] },
      { role: "tool", tool_call_id: "b", content: "" },
    ];
    const [, said, answered] = encode({ messages }).messages;
    assert.deepEqual(said.content, [
      { text: "Let me see." },
      { toolUse: { toolUseId: "a", name: "f", input: {} } },
      { toolUse: { toolUseId: "b", name: "f", input: {} } },
    ]);
    assert.deepEqual(answered.content, [
      {
        toolResult: {
          toolUseId: "a",
          content: [{ text: "1" }, { image: { format: "png", source: { bytes: "AAEC" } } }],
        },
      },
      { toolResult: { toolUseId: "b", content: [{ text: "(no output)" }] } },
    ]);
  });

  test("thoughts go back with what proves them, and without it not at all", () => {
    const thinking_blocks = [
      { type: "thinking", thinking: "Hm.", signature: "c2ln" },
      { type: "redacted_thinking", data: "c2VjcmV0" },
      { type: "thinking", thinking: "somebody else's" },
    ];
    const messages = [
      question,
      { role: "assistant", content: "42", thinking_blocks },
      { role: "user", content: "Why?" },
    ];
    assert.deepEqual(encode({ messages }).messages[1].content, [
      { reasoningContent: { reasoningText: { text: "Hm.", signature: "c2ln" } } },
      { reasoningContent: { redactedContent: "c2VjcmV0" } },
      { text: "42" },
    ]);
  });

  test("pictures, documents, sound and film come along, each in Bedrock's words", () => {
    const data = (type: string) => `data:${type};base64,AAEC`;
    const content = [
      { type: "text", text: "See:" },
      image("image/jpeg"),
      { type: "image_url", image_url: { url: "s3://bucket/cat.webp" } },
      { type: "file", file: { filename: "Q1 report!.pdf", file_data: data("application/pdf") } },
      { type: "file", file: { filename: "Q1 report!.pdf", file_data: data("application/pdf") } },
      { type: "file", file: { filename: "x.csv", file_data: "AAEC" } },
      { type: "input_audio", input_audio: { data: "AAEC", format: "mp3" } },
      { type: "video_url", video_url: { url: data("video/mp4") } },
      { type: "text", text: "  " },
    ];
    const source = { bytes: "AAEC" };
    assert.deepEqual(encode({ messages: [{ role: "user", content }] }).messages[0].content, [
      { text: "See:" },
      { image: { format: "jpeg", source } },
      { image: { format: "webp", source: { s3Location: { uri: "s3://bucket/cat.webp" } } } },
      { document: { format: "pdf", source, name: "Q1 report" } },
      { document: { format: "pdf", source, name: "Q1 report 2" } },
      { document: { format: "csv", source, name: "x" } },
      { audio: { format: "mp3", source } },
      { video: { format: "mp4", source } },
    ]);
  });

  test("what cannot be sent is refused, and the part is named", () => {
    const withPart = (part: object) => ({ messages: [{ role: "user", content: [{ type: "text", text: "x" }, part] }] });
    const web = refused(withPart({ type: "image_url", image_url: { url: "https://example.com/cat.png" } }));
    assert.equal(web.facts.param, "messages[0].content[1]");
    assert.match(web.message, /must be a data: URL with the image in it, or an s3:\/\/ address/);
    assert.match(refused(withPart(image("image/tiff"))).message, /of images it takes png, jpeg, gif, webp/);
    assert.equal(refused(withPart({ type: "hologram" })).facts.param, "messages[0].content[1].type");
    const call = { id: "a", type: "function", function: { name: "f", arguments: "{cut" } };
    const cut = refused({ messages: [question, { role: "assistant", tool_calls: [call] }] });
    assert.equal(cut.facts.param, "messages[1].tool_calls[0].function.arguments");
    assert.equal(refused({ messages: [{ role: "narrator", content: "x" }] }).facts.param, "messages[0].role");
    assert.equal(refused({ messages: [7] }).facts.param, "messages[0]");
    assert.equal(
      refused({ tool_choice: 7, tools: [{ type: "function", function: topSong }] }).facts.param,
      "tool_choice",
    );
    assert.equal(refused({ tools: [{ type: "web_search" }] }).facts.param, "tools[0].type");
  });

  test("cache marks become cache points behind what they mark", () => {
    const mark = { cache_control: { type: "ephemeral" } };
    const hour = { cache_control: { type: "ephemeral", ttl: "1h" } };
    const body = encode({
      messages: [
        { role: "system", content: [{ type: "text", text: "Long.", ...hour }] },
        { role: "user", content: "Hi", ...mark },
      ],
      tools: [{ type: "function", function: { name: "f" }, ...mark }],
    });
    const point = { cachePoint: { type: "default" } };
    assert.deepEqual(body.system, [{ text: "Long." }, { cachePoint: { type: "default", ttl: "1h" } }]);
    assert.deepEqual(body.messages[0].content, [{ text: "Hi" }, point]);
    assert.deepEqual(body.toolConfig.tools.at(-1), point);
  });

  test("sampling goes where Converse has it, the rest to the model in its maker's words", () => {
    const settings = { temperature: 0.5, top_p: 0.9, stop: "END", max_tokens: 50, top_k: 40, anthropic_beta: ["x"] };
    const body = encode({ ...settings, tags: ["mine"], user: "u", metadata: { a: "b" }, service_tier: "flex" });
    assert.deepEqual(body.inferenceConfig, { maxTokens: 50, temperature: 0.5, topP: 0.9, stopSequences: ["END"] });
    assert.deepEqual(body.additionalModelRequestFields, { anthropic_beta: ["x"], top_k: 40 });
    assert.deepEqual(body.serviceTier, { type: "flex" });
    assert.deepEqual(Object.keys(body).sort(), [
      ...["additionalModelRequestFields", "inferenceConfig", "messages", "serviceTier"],
    ]);
    assert.equal(encode({ max_tokens: 50 }, { cap: 20 }).inferenceConfig.maxTokens, 20);
    const guardrailConfig = { guardrailIdentifier: "g", guardrailVersion: "1" };
    assert.deepEqual(encode({ guardrailConfig }).guardrailConfig, guardrailConfig);
    assert.deepEqual(encode({ top_k: 3 }, { model: "us.amazon.nova-pro-v1:0" }).additionalModelRequestFields, {
      inferenceConfig: { topK: 3 },
    });
  });

  test("tool_choice in all its forms", () => {
    const tools = [{ type: "function", function: topSong }];
    const chosen = (tool_choice: unknown) => encode({ tools, tool_choice }).toolConfig?.toolChoice;
    assert.deepEqual(chosen("auto"), { auto: {} });
    assert.deepEqual(chosen("required"), { any: {} });
    assert.deepEqual(chosen({ type: "function", function: { name: "top_song" } }), { tool: { name: "top_song" } });
    assert.equal(encode({ tools, tool_choice: "none" }).toolConfig, undefined);
  });

  test("a JSON schema goes as a text to the models that hold to it, and to others as a tool whose input is the answer", () => {
    const open = { type: "object", properties: { a: { type: "integer", minimum: 3 } } };
    const closed = { type: "object", properties: { a: { type: "integer" } }, additionalProperties: false };
    const format = (schema: object) => ({
      response_format: { type: "json_schema", json_schema: { name: "thing", schema, strict: true } },
    });
    const native = (schema: object) => ({
      textFormat: { type: "json_schema", structure: { jsonSchema: { schema: JSON.stringify(schema), name: "thing" } } },
    });
    assert.deepEqual(encode(format(closed)).outputConfig, native(closed));
    assert.equal(encode(format(closed)).toolConfig, undefined);
    assert.deepEqual(encode(format(open), { model: "openai.gpt-oss-120b-1:0" }).outputConfig, native(open));
    const byTool = (fields: object, model?: string) => encode(fields, model === undefined ? {} : { model }).toolConfig;
    const tool = (schema: object) => ({
      toolSpec: {
        name: "json_tool_call",
        description: "Give your whole answer as the input of this tool.",
        inputSchema: { json: schema },
      },
    });
    const forced = { tool: { name: "json_tool_call" } };
    assert.deepEqual(byTool(format(open)), { tools: [tool(open)], toolChoice: forced });
    assert.deepEqual(byTool(format(closed), "amazon.nova-pro-v1:0"), { tools: [tool(closed)], toolChoice: forced });
    assert.deepEqual(byTool(format(closed), "meta.llama3-70b-instruct-v1:0"), { tools: [tool(closed)] });
    assert.deepEqual(byTool({ response_format: { type: "json_object" } }), {
      ...{ tools: [tool({ type: "object", additionalProperties: true })], toolChoice: forced },
    });
    const besides = byTool({ ...format(open), tools: [{ type: "function", function: topSong }] });
    assert.deepEqual([besides.tools.length, besides.toolChoice], [2, { any: {} }]);
    assert.equal(byTool({ ...format(open), reasoning_effort: "low" }).toolChoice, undefined);
  });

  test("how hard to think is told each maker's models in its own words", () => {
    const fields = (model: string, extra: object, cap?: number) =>
      encode({ reasoning_effort: "low", ...extra }, { model, ...(cap !== undefined && { cap }) })
        .additionalModelRequestFields;
    assert.deepEqual(fields(claude, {}), { thinking: { type: "enabled", budget_tokens: 1024 } });
    assert.deepEqual(fields(claude, { reasoning_effort: "high" }, 3000), {
      thinking: { type: "enabled", budget_tokens: 2999 },
    });
    assert.equal(fields(claude, {}, 500), undefined, "there is no room to think");
    assert.deepEqual(fields(claude, { thinking: { type: "enabled", budget_tokens: 7 } }), {
      thinking: { type: "enabled", budget_tokens: 7 },
    });
    assert.deepEqual(fields("openai.gpt-oss-120b-1:0", {}), { reasoning_effort: "low" });
    assert.deepEqual(fields("amazon.nova-2-lite-v1:0", {}), {
      reasoningConfig: { type: "enabled", maxReasoningEffort: "low" },
    });
    const adaptive = encode({ reasoning_effort: "minimal" }, { model: "us.anthropic.claude-opus-4-6-v1" });
    assert.deepEqual(adaptive.additionalModelRequestFields, { thinking: { type: "adaptive" } });
    assert.deepEqual(adaptive.outputConfig, { effort: "low" });
    assert.equal(refused({ reasoning_effort: "low" }, { model: "meta.llama3-70b" }).facts.param, "reasoning_effort");
    assert.equal(refused({ reasoning_effort: "absurd" }).facts.param, "reasoning_effort");
  });

  test("parameters it lacks are refused by name, or dropped when told so", () => {
    assert.equal(refused({ seed: 1 }).facts.param, "seed");
    assert.equal(encode({ seed: 1 }, { drops: true }).seed, undefined);
    assert.equal(refused({ parallel_tool_calls: false }).facts.param, "parallel_tool_calls");
    assert.deepEqual(Object.keys(encode({ parallel_tool_calls: true, n: 1, seed: null })), ["messages"]);
  });
});

function image(type: string): object {
  return { type: "image_url", image_url: { url: `data:${type};base64,AAEC` } };
}
