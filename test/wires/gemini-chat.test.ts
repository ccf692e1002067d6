import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ProviderFailure } from "../../src/errors.ts";
import { encodeGeminiRequest } from "../../src/wires/gemini-chat.ts";
import { sampleRequest } from "../sample-call.ts";

function encode(fields: object, options: { model?: string; cap?: number; drops?: boolean } = {}) {
  const { model = "gemini-2.5-pro", cap, drops = false } = options;
  const params = { lacks: new Set(["logit_bias"]), drops, leavesOut: [], modifies: false };
  const target = { model, outputTokensMax: cap, provider: "gemini", params };
  return JSON.parse(encodeGeminiRequest(sampleRequest(fields), target).toString());
}

function refused(fields: object, options?: Parameters<typeof encode>[1]): ProviderFailure {
  try {
    encode(fields, options);
  } catch (error) {
    assert.ok(error instanceof ProviderFailure, String(error));
    assert.equal(error.code, "invalid_request");
    return error;
  }
  throw new Error("it was not refused");
}

const parameters = {
  type: "object",
  properties: { location: { type: "string" }, unit: { anyOf: [{ const: "c" }, { const: "f" }] } },
  additionalProperties: false,
};
const weather = { type: "function", function: { name: "get_weather", description: "d", parameters, strict: true } };
const question = { role: "user", content: "How is it in Boston?" };

describe("a chat written for Gemini", () => {
  test("a conversation: system messages to the head, neighbours of one side in one turn", () => {
    const messages = [
      { role: "system", content: "You are a cat. Your name is Neko." },
      { role: "user", content: "Hello there" },
      { role: "user", content: [{ type: "text", text: "you" }] },
      { role: "assistant", content: "Meow" },
      { role: "developer", content: "Be shy." },
    ];
    assert.deepEqual(encode({ messages }), {
      systemInstruction: { parts: [{ text: "You are a cat. Your name is Neko." }, { text: "Be shy." }] },
      contents: [
        { role: "user", parts: [{ text: "Hello there" }, { text: "you" }] },
        { role: "model", parts: [{ text: "Meow" }] },
      ],
      generationConfig: {},
    });
    const orders = encode({ messages: [{ role: "system", content: "Say hello." }] });
    assert.deepEqual(orders.contents, [{ role: "user", parts: [{ text: "Say hello." }] }]);
    assert.equal(orders.systemInstruction, undefined);
  });

  test("tools are declared with their schema as it is; Google's own pass", () => {
    const bare = { type: "function", function: { name: "now", parameters: { type: "object", properties: {} } } };
    const body = encode({ messages: [question], tools: [weather, { googleSearch: {} }, bare], web_search_options: {} });
    assert.deepEqual(body.tools, [
      {
        functionDeclarations: [
          { name: "get_weather", description: "d", parametersJsonSchema: parameters },
          { name: "now" },
        ],
      },
      { googleSearch: {} },
      { googleSearch: {} },
    ]);
    assert.equal(refused({ tools: [{ type: "web_search_preview" }] }).facts.param, "tools[0].type");
  });

  test("tool_choice in all its forms", () => {
    const chosen = (tool_choice: unknown) =>
      encode({ tools: [weather], tool_choice }).toolConfig?.functionCallingConfig;
    assert.deepEqual(chosen("auto"), { mode: "AUTO" });
    assert.deepEqual(chosen("none"), { mode: "NONE" });
    assert.deepEqual(chosen("required"), { mode: "ANY" });
    const named = { type: "function", function: { name: "get_weather" } };
    assert.deepEqual(chosen(named), { mode: "ANY", allowedFunctionNames: ["get_weather"] });
    const allowed = { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [named] } };
    assert.deepEqual(chosen(allowed), { mode: "VALIDATED", allowedFunctionNames: ["get_weather"] });
    assert.equal(chosen(undefined), undefined);
    assert.equal(refused({ tools: [weather], tool_choice: 7 }).facts.param, "tool_choice");
  });

  test("calls and their answers: parallel ones in one turn, signatures with the calls they came with", () => {
    const call = (id: string, others = {}) => ({
      ...{ id, type: "function", function: { name: "get_weather", arguments: '{"location":"Boston"}' } },
      ...others,
    });
    const messages = [
      question,
      {
        role: "assistant",
        content: null,
        tool_calls: [call("call_1", { provider_specific_fields: { thought_signature: "c2ln" } }), call("fc-9")],
      },
      { role: "tool", tool_call_id: "call_1", content: '{"temperature":15}' },
      { role: "tool", tool_call_id: "fc-9", content: [{ type: "text", text: "cold" }] },
    ];
    const args = { location: "Boston" };
    assert.deepEqual(encode({ messages }).contents.slice(1), [
      {
        role: "model",
        parts: [
          { functionCall: { name: "get_weather", args }, thoughtSignature: "c2ln" },
          { functionCall: { name: "get_weather", args, id: "fc-9" } },
        ],
      },
      {
        role: "user",
        parts: [
          { functionResponse: { name: "get_weather", response: { temperature: 15 } } },
          { functionResponse: { name: "get_weather", response: { result: "cold" }, id: "fc-9" } },
        ],
      },
    ]);
  });

  test("where a model insists on signatures, a call of another model's gets the word that none is to be had", () => {
    const tool_calls = ["a", "b"].map((id) => ({ id, type: "function", function: { name: "f", arguments: "{}" } }));
    const messages = [question, { role: "assistant", tool_calls }];
    const parts = (model: string) => encode({ messages }, { model }).contents[1].parts;
    assert.deepEqual(
      parts("gemini-3-pro-preview").map((part: { thoughtSignature?: string }) => part.thoughtSignature),
      ["skip_thought_signature_validator", undefined],
    );
    assert.equal(parts("gemini-2.5-flash")[0].thoughtSignature, undefined);
    const google = { extra_content: { google: { thought_signature: "eHg=" } } };
    const kept = [question, { role: "assistant", tool_calls: [{ ...tool_calls[0], ...google }] }];
    assert.equal(encode({ messages: kept }).contents[1].parts[0].thoughtSignature, "eHg=");
    const spoken = {
      role: "assistant",
      content: "Hi",
      provider_specific_fields: { thought_signatures: ["YQ==", "Yg=="] },
    };
    assert.deepEqual(encode({ messages: [question, spoken] }).contents[1].parts, [
      { text: "Hi", thoughtSignature: "Yg==" },
    ]);
  });

  test("pictures, documents, sound and film, inline and by address", () => {
    const content = [
      { type: "image_url", image_url: "data:image/png;base64,AAEC" },
      { type: "image_url", image_url: { url: "https://example.com/cat.JPG?x=1" } },
      { type: "image_url", image_url: { url: "gs://bucket/cat", format: "image/webp" } },
      { type: "file", file: { file_data: "data:application/pdf;base64,AAEC", filename: "a.pdf" } },
      { type: "file", file: { file_id: "https://generativelanguage.googleapis.com/v1beta/files/abc" } },
      { type: "input_audio", input_audio: { data: "AAEC", format: "mp3" } },
      { type: "video_url", video_url: { url: "https://www.youtube.com/watch?v=9hE5-98ZeCg" } },
    ];
    const inline = (mimeType: string) => ({ inlineData: { mimeType, data: "AAEC" } });
    assert.deepEqual(encode({ messages: [{ role: "user", content }] }).contents[0].parts, [
      inline("image/png"),
      { fileData: { mimeType: "image/jpeg", fileUri: "https://example.com/cat.JPG?x=1" } },
      { fileData: { mimeType: "image/webp", fileUri: "gs://bucket/cat" } },
      inline("application/pdf"),
      { fileData: { fileUri: "https://generativelanguage.googleapis.com/v1beta/files/abc" } },
      inline("audio/mp3"),
      { fileData: { fileUri: "https://www.youtube.com/watch?v=9hE5-98ZeCg" } },
    ]);
    const plain = { type: "image_url", image_url: { url: "data:text/plain,hello" } };
    assert.equal(refused({ messages: [{ role: "user", content: [plain] }] }).facts.param, "messages[0].content[0]");
  });

  test("sampling, the number of answers, probabilities, and Google's own fields", () => {
    const body = encode({
      ...{ temperature: 0.2, top_p: 0.8, top_k: 10, max_tokens: 800, stop: ["Title"], seed: 5, n: 2 },
      ...{ presence_penalty: 0.1, frequency_penalty: 0.2, logprobs: true, top_logprobs: 3, user: "u", tags: ["t"] },
      ...{ modalities: ["text", "audio"], audio: { voice: "Kore", format: "pcm16" }, service_tier: "default" },
      ...{
        safetySettings: [{ category: "x" }],
        cachedContent: "cachedContents/1",
        generationConfig: { mediaResolution: "LOW" },
      },
    });
    assert.deepEqual(body.generationConfig, {
      ...{ temperature: 0.2, topP: 0.8, topK: 10, maxOutputTokens: 800, stopSequences: ["Title"], seed: 5 },
      ...{ candidateCount: 2, presencePenalty: 0.1, frequencyPenalty: 0.2, responseLogprobs: true, logprobs: 3 },
      responseModalities: ["TEXT", "AUDIO"],
      speechConfig: { voiceConfig: { prebuiltVoiceConfig: { voiceName: "Kore" } } },
      mediaResolution: "LOW",
    });
    assert.deepEqual(Object.keys(body).sort(), [
      ...["cachedContent", "contents", "generationConfig", "safetySettings", "serviceTier"],
    ]);
    assert.equal(body.serviceTier, "standard");
    assert.equal(encode({ max_completion_tokens: 50 }, { cap: 20 }).generationConfig.maxOutputTokens, 20);
  });

  test("JSON, with a schema and without", () => {
    const format = (response_format: object) => encode({ response_format }).generationConfig;
    assert.deepEqual(format({ type: "json_object" }), { responseMimeType: "application/json" });
    assert.deepEqual(format({ type: "json_schema", json_schema: { name: "n", schema: parameters } }), {
      responseMimeType: "application/json",
      responseJsonSchema: parameters,
    });
    assert.deepEqual(format({ type: "text" }), {});
  });

  test("how hard to think: a budget before Gemini 3, a level since", () => {
    const config = (fields: object, model?: string) =>
      encode(fields, model === undefined ? {} : { model }).generationConfig.thinkingConfig;
    assert.deepEqual(config({ reasoning_effort: "high" }), { includeThoughts: true, thinkingBudget: 4096 });
    assert.deepEqual(config({ reasoning_effort: "none" }), { includeThoughts: false, thinkingBudget: 0 });
    assert.deepEqual(config({ reasoning_effort: "medium" }, "gemini-3-flash"), {
      includeThoughts: true,
      thinkingLevel: "medium",
    });
    assert.deepEqual(config({ reasoning_effort: "minimal" }, "gemini-3-pro-preview"), {
      includeThoughts: true,
      thinkingLevel: "low",
    });
    assert.deepEqual(config({ thinking: { type: "enabled", budget_tokens: 500 } }), {
      includeThoughts: true,
      thinkingBudget: 500,
    });
    assert.deepEqual(config({ thinking: { type: "disabled" } }), { includeThoughts: false, thinkingBudget: 0 });
    assert.equal(config({}), undefined);
    assert.equal(refused({ reasoning_effort: "absurd" }).facts.param, "reasoning_effort");
  });

  test("parameters it lacks are refused by name, or dropped when told so", () => {
    assert.equal(refused({ logit_bias: { a: 1 } }).facts.param, "logit_bias");
    assert.equal(encode({ logit_bias: { a: 1 } }, { drops: true }).logit_bias, undefined);
    assert.equal(refused({ parallel_tool_calls: false }).facts.param, "parallel_tool_calls");
  });
});
