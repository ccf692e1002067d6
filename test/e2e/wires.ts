import type { ServerResponse } from "node:http";
import { AnthropicUpstream } from "../anthropic-upstream.ts";
import { accessKey, BedrockUpstream, region, sendEvents } from "../bedrock-upstream.ts";
import { bedrockEvent } from "../event-frame.ts";
import { GeminiUpstream, sendError, sendPieces, studioKey } from "../gemini-upstream.ts";
import { ResponsesServer, type Saying } from "../responses-server.ts";
import { sendJson, Upstream } from "../upstream.ts";

/** What one answer used: totals, and parts of them. */
export interface Used {
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly output: number;
  readonly reasoning: number;
}

/** A provider's wire, spoken by a scripted server: three models, two of which fail. */
export interface ScriptedWire {
  readonly name: string;
  /** Lines of `model_list`: the groups `<id>`, `<id>-limited` and `<id>-long`. */
  readonly models: string;
  readonly id: string;
  /** What every answer used, as the server says it. */
  readonly used: Used;
  /** What every answer costs, in nano-dollars, reckoned by hand. */
  readonly cost: bigint;
  /** The last request's body. */
  lastBody(): string;
  close(): Promise<void>;
}

export const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const json = '{"city":"Zürich","days":3}';
const calledWith = { city: "Zürich 🚀", days: 3 };

/** In nano-dollars a token; the same for every provider. */
const price = { input: 1_000n, read: 100n, write: 1_250n, write1h: 2_000n, output: 2_500n, reasoning: 3_000n };
const prices = `
      input_cost_per_token: 0.000001
      cache_read_input_token_cost: 0.0000001
      cache_creation_input_token_cost: 0.00000125
      cache_creation_input_token_cost_above_1hr: 0.000002
      output_cost_per_token: 0.0000025
      output_cost_per_reasoning_token: 0.000003`;

function modelList(id: string, models: readonly [string, string, string], params: string): string {
  return ["", "-limited", "-long"]
    .map(
      (ending, place) => `
  - model_name: ${id}${ending}
    litellm_params:
      model: ${models[place]}${params}${prices}`,
    )
    .join("");
}

type Answered = void | Promise<void>;

/** What a scripted model does: it calls two tools if it has tools and no results, else it says what it was shown. */
interface Ask {
  readonly hasTools: boolean;
  readonly results: number;
  readonly hasImage: boolean;
  readonly wantsJson: boolean;
}

const isCalling = (ask: Ask) => ask.hasTools && ask.results === 0;

function textFor({ hasImage, results, wantsJson }: Ask): string {
  if (wantsJson) return json;
  return `Hello wörld.${hasImage ? " [image]" : ""}${" [tool_result]".repeat(results)}\n\ndata: [DONE]\n\n "x" 🚀`;
}

/** A text in two pieces. */
function halves(text: string): [string, string] {
  const characters = [...text];
  const middle = Math.ceil(characters.length / 2);
  return [characters.slice(0, middle).join(""), characters.slice(middle).join("")];
}

const count = (text: string, word: string) => text.split(word).length - 1;

/** OpenAI's chat, and its responses unless its operator wants them asked for by chat. */
export async function openaiWire(params = ""): Promise<ScriptedWire> {
  const upstream = await Upstream.start();
  upstream.scripts.set("good", (call, res, request) => answerAsOpenai(call.body, res, request.stream === true));
  upstream.responses = new ResponsesServer({ name: "openai", saying: sayAsOpenai, usage: responsesUsage });
  upstream.scripts.set("limited", (_call, res) =>
    sendJson(res, 429, { error: { message: "slow down", type: "requests" } }, { "retry-after": "7" }),
  );
  return {
    name: "OpenAI",
    id: "gpt",
    models: modelList(
      "gpt",
      ["openai/good", "openai/limited", "openai/too-long"],
      `
      api_base: ${upstream.baseUrl}
      api_key: sk-upstream${params}`,
    ),
    used: { input: 160, cacheRead: 100, cacheWrite: 0, output: 27, reasoning: 20 },
    cost: 60n * price.input + 100n * price.read + 7n * price.output + 20n * price.reasoning,
    lastBody: () => upstream.calls.at(-1)?.body ?? "",
    close: () => upstream.close(),
  };
}

const responsesUsage = {
  ...{ input_tokens: 160, output_tokens: 27, total_tokens: 187 },
  input_tokens_details: { cached_tokens: 100 },
  output_tokens_details: { reasoning_tokens: 20 },
};

const sayAsOpenai: Saying = ({ body, conversation }) => {
  const said = JSON.stringify(conversation);
  const ask: Ask = {
    hasTools: body.tools !== undefined,
    results: count(said, '"type":"function_call_output"'),
    hasImage: said.includes(`"image_url":"data:image/png;base64,${pixel}"`),
    wantsJson: JSON.stringify(body.text ?? "").includes('"json_schema"'),
  };
  const thought = { type: "reasoning" as const, summary: "Let me think." };
  if (!isCalling(ask)) return [thought, { type: "message", text: textFor(ask) }];
  const calls = [calledWith, {}].map((input, index) => ({
    ...{ type: "function_call" as const, name: "weather", call_id: `call_${index}` },
    arguments: JSON.stringify(input),
  }));
  return [thought, ...calls];
};

function answerAsOpenai(body: string, res: ServerResponse, isStream: boolean): Answered {
  const { tools, response_format } = JSON.parse(body) as { tools?: unknown; response_format?: unknown };
  const ask: Ask = {
    hasTools: tools !== undefined,
    results: count(body, '"role":"tool"'),
    hasImage: body.includes(`"url":"data:image/png;base64,${pixel}"`),
    wantsJson: response_format !== undefined,
  };
  const calls = [calledWith, {}].map((input, index) => ({
    ...{ index, id: `call_${index}`, type: "function" },
    function: { name: "weather", arguments: JSON.stringify(input) },
  }));
  const finish_reason = isCalling(ask) ? "tool_calls" : "stop";
  const usage = {
    ...{ prompt_tokens: 160, completion_tokens: 27, total_tokens: 187 },
    prompt_tokens_details: { cached_tokens: 100 },
    completion_tokens_details: { reasoning_tokens: 20 },
  };
  const head = { id: "chatcmpl-1", created: 1_700_000_000, model: "good" };
  if (!isStream) {
    const said = isCalling(ask) ? { content: null, tool_calls: calls } : { content: textFor(ask) };
    const message = { role: "assistant", ...said };
    return sendJson(res, 200, {
      ...head,
      object: "chat.completion",
      choices: [{ index: 0, message, finish_reason }],
      usage,
    });
  }
  res.writeHead(200, { "content-type": "text/event-stream" });
  const frame = (fields: object) =>
    res.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...fields })}\n\n`);
  const delta = (fields: object) => frame({ choices: [{ index: 0, delta: fields, finish_reason: null }] });
  delta({ role: "assistant", content: isCalling(ask) ? null : "" });
  if (isCalling(ask)) {
    for (const call of calls) delta({ tool_calls: [{ ...call, function: { ...call.function, arguments: "" } }] });
    // The arguments of both come by turns.
    for (const half of [0, 1] as const) {
      for (const { index, function: called } of calls)
        delta({ tool_calls: [{ index, function: { arguments: halves(called.arguments)[half] } }] });
    }
  } else for (const content of halves(textFor(ask))) delta({ content });
  frame({ choices: [{ index: 0, delta: {}, finish_reason }] });
  frame({ choices: [], usage });
  res.end("data: [DONE]\n\n");
}

export async function anthropicWire(): Promise<ScriptedWire> {
  const upstream = await AnthropicUpstream.start();
  return {
    name: "Anthropic",
    id: "claude",
    models: modelList(
      "claude",
      ["anthropic/claude-sonnet-4-5", "anthropic/limited", "anthropic/too-long"],
      `
      api_base: ${upstream.baseUrl}
      api_key: sk-ant-upstream`,
    ),
    // As anthropic-upstream.ts says of what has a mark to cache: 20 tokens are written for minutes, 30 for an hour.
    used: { input: 161, cacheRead: 100, cacheWrite: 50, output: 7, reasoning: 0 },
    cost: 11n * price.input + 100n * price.read + 20n * price.write + 30n * price.write1h + 7n * price.output,
    lastBody: () => upstream.lastCall.text,
    close: () => upstream.close(),
  };
}

export async function geminiWire(): Promise<ScriptedWire> {
  const upstream = await GeminiUpstream.start();
  upstream.scripts.set("gemini-3-flash-test", ({ path, body }, res) =>
    answerAsGemini(body, res, path.includes(":streamGenerateContent")),
  );
  upstream.scripts.set("limited", (_call, res) => {
    const details = [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "7s" }];
    sendError(res, 429, { message: "Quota exceeded", status: "RESOURCE_EXHAUSTED", details });
  });
  upstream.scripts.set("long", (_call, res) => {
    const message = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
    sendError(res, 400, { message, status: "INVALID_ARGUMENT" });
  });
  return {
    name: "Gemini",
    id: "gemini",
    models: modelList(
      "gemini",
      ["gemini/gemini-3-flash-test", "gemini/limited", "gemini/long"],
      `
      api_base: ${upstream.url}/v1beta
      api_key: ${studioKey}`,
    ),
    used: { input: 11, cacheRead: 4, cacheWrite: 0, output: 93, reasoning: 20 },
    cost: 7n * price.input + 4n * price.read + 73n * price.output + 20n * price.reasoning,
    lastBody: () => JSON.stringify(upstream.calls.at(-1)?.body),
    close: () => upstream.close(),
  };
}

function answerAsGemini(body: Readonly<Record<string, unknown>>, res: ServerResponse, isStream: boolean): Answered {
  const text = JSON.stringify(body);
  const ask: Ask = {
    hasTools: body.tools !== undefined,
    results: count(text, '"functionResponse":'),
    hasImage: text.includes(`"inlineData":{"mimeType":"image/png","data":"${pixel}"}`),
    wantsJson: text.includes('"responseMimeType":"application/json"'),
  };
  if (ask.results > 0 && !text.includes('"thoughtSignature":')) {
    const message = "Function call is missing a thought_signature in functionCall parts.";
    return sendError(res, 400, { message, status: "INVALID_ARGUMENT" });
  }
  const parts: object[] = isCalling(ask)
    ? [
        { functionCall: { name: "weather", args: calledWith }, thoughtSignature: "c2ln" },
        { functionCall: { name: "weather", args: {} } },
      ]
    : halves(textFor(ask)).map((half) => ({ text: half }));
  const usageMetadata = {
    ...{ promptTokenCount: 11, candidatesTokenCount: 73, thoughtsTokenCount: 20, cachedContentTokenCount: 4 },
    totalTokenCount: 104,
  };
  const facts = { modelVersion: "gemini-3-flash-test", responseId: "resp-1" };
  const candidate = (content: object[], finish: object = {}) => [
    { content: { role: "model", parts: content }, ...finish },
  ];
  const end = { finishReason: "STOP", index: 0 };
  if (!isStream) return sendJson(res, 200, { candidates: candidate(parts, end), usageMetadata, ...facts });
  const pieces = parts.map((part) => ({ candidates: candidate([part], { index: 0 }), ...facts }));
  return sendPieces(res, [...pieces, { candidates: candidate([{ text: "" }], end), usageMetadata, ...facts }]);
}

export async function bedrockWire(): Promise<ScriptedWire> {
  const upstream = await BedrockUpstream.start();
  upstream.scripts.set("amazon.nova-test-v1:0", ({ path, body }, res) =>
    answerAsBedrock(body, res, path.endsWith("/converse-stream")),
  );
  const failing = (status: number, type: string, message: string, headers: Record<string, string> = {}) => {
    return (_call: unknown, res: ServerResponse) =>
      sendJson(res, status, { message }, { "x-amzn-errortype": `${type}:http://internal.amazon.com/`, ...headers });
  };
  const tooMany = failing(429, "ThrottlingException", "Too many tokens, please wait.", { "retry-after": "7" });
  upstream.scripts.set("amazon.limited", tooMany);
  upstream.scripts.set("amazon.long", failing(400, "ValidationException", "Input is too long for requested model."));
  return {
    name: "Bedrock",
    id: "nova",
    models: modelList(
      "nova",
      [`bedrock/${region}/amazon.nova-test-v1:0`, `bedrock/${region}/amazon.limited`, `bedrock/${region}/amazon.long`],
      `
      aws_bedrock_runtime_endpoint: ${upstream.url}
      aws_access_key_id: ${accessKey.id}
      aws_secret_access_key: ${accessKey.secret}`,
    ),
    used: { input: 177, cacheRead: 100, cacheWrite: 30, output: 20, reasoning: 0 },
    cost: 47n * price.input + 100n * price.read + 20n * price.write + 10n * price.write1h + 20n * price.output,
    lastBody: () => JSON.stringify(upstream.calls.at(-1)?.body),
    close: () => upstream.close(),
  };
}

/** Nova has no JSON schemas: the answer is brought about by a tool it must call. */
function answerAsBedrock(body: Readonly<Record<string, unknown>>, res: ServerResponse, isStream: boolean): Answered {
  const text = JSON.stringify(body);
  const forced = /"toolChoice":\{"tool":\{"name":"([^"]+)"\}\}/.exec(text)?.[1];
  const ask: Ask = {
    hasTools: body.toolConfig !== undefined,
    results: count(text, '"toolResult":'),
    hasImage: text.includes(`"image":{"format":"png","source":{"bytes":"${pixel}"}}`),
    wantsJson: false,
  };
  const inputs = forced === undefined ? [calledWith, {}] : [JSON.parse(json) as object];
  const calls = inputs.map((input, index) => ({ toolUseId: `tooluse_${index}`, name: forced ?? "weather", input }));
  const usage = {
    ...{ inputTokens: 47, outputTokens: 20, totalTokens: 197, cacheReadInputTokens: 100, cacheWriteInputTokens: 30 },
    cacheDetails: [{ ttl: "1h", inputTokens: 10 }],
  };
  const stopReason = isCalling(ask) ? "tool_use" : "end_turn";
  if (!isStream) {
    const content = isCalling(ask) ? calls.map((toolUse) => ({ toolUse })) : [{ text: textFor(ask) }];
    return sendJson(res, 200, { output: { message: { role: "assistant", content } }, stopReason, usage });
  }
  const delta = (contentBlockIndex: number, fields: object) =>
    bedrockEvent("contentBlockDelta", { contentBlockIndex, delta: fields });
  const stop = (contentBlockIndex: number) => bedrockEvent("contentBlockStop", { contentBlockIndex });
  const blocks = isCalling(ask)
    ? calls.flatMap(({ input, ...toolUse }, index) => [
        bedrockEvent("contentBlockStart", { contentBlockIndex: index, start: { toolUse } }),
        ...halves(JSON.stringify(input)).map((half) => delta(index, { toolUse: { input: half } })),
        stop(index),
      ])
    : [...halves(textFor(ask)).map((half) => delta(0, { text: half })), stop(0)];
  return sendEvents(res, [
    bedrockEvent("messageStart", { role: "assistant" }),
    ...blocks,
    bedrockEvent("messageStop", { stopReason }),
    bedrockEvent("metadata", { usage, metrics: { latencyMs: 1 } }),
  ]);
}
