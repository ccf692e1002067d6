import Anthropic from "@anthropic-ai/sdk";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import OpenAI from "openai";
import {
  type Choice,
  ChoiceSchema,
  type CompleteResponse,
  CompleteResponseSchema,
  createCompletionClient,
  FinishReason,
  type ReasoningBlock,
  ReasoningBlockSchema,
  Role,
  type StreamCompleteResponse,
  ToolCallSchema,
  type Usage,
} from "../../src/client.ts";
import { ErrorInfoSchema, RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { pixel, type Used } from "./wires.ts";

/** What a client is told to ask. */
export interface Question {
  readonly model: string;
  readonly stream?: boolean;
  readonly hasTools?: boolean;
  readonly hasImage?: boolean;
  readonly wantsJson?: boolean;
  /** An answer that called tools: their results are brought. */
  readonly after?: Said;
}

/** What it was answered. */
export interface Said {
  readonly text: string;
  readonly calls: readonly { readonly id: string; readonly name: string; readonly input: unknown }[];
  /** Whether it ended by itself or to call tools. */
  readonly end: "stop" | "tools" | "other";
  readonly used: Omit<Used, "reasoning"> & { readonly reasoning: number | undefined };
  /** The message as the client had it, to be sent back. */
  readonly message: unknown;
}

/** How it was refused. */
export interface Refused {
  readonly status: number | string;
  readonly code: string | null | undefined;
  readonly retryAfterMs: number | undefined;
}

/** A door and the client that knocks at it. */
export interface DoorClient {
  readonly name: string;
  ask(question: Question): Promise<Said>;
  /** Asks what is refused. */
  refused(question: Question): Promise<Refused>;
}

const schema = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
};
const parameters = { type: "object" as const, properties: { city: { type: "string" }, days: { type: "integer" } } };
/** A mark to cache what is before it; a provider that caches by itself is not told. */
const cache_control = { type: "ephemeral" as const };
const question = { type: "text" as const, text: "Hello?", cache_control };
const result = "sunny ☀";

/** OpenAI's own client. */
export function openaiClient(url: string, apiKey: string): DoorClient {
  const { completions } = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 }).chat;
  const ask = async (asked: Question) => {
    const image = { type: "image_url" as const, image_url: { url: `data:image/png;base64,${pixel}` } };
    const before = asked.after?.message as OpenAI.ChatCompletionMessage | undefined;
    const messages: OpenAI.ChatCompletionMessageParam[] = [
      { role: "user", content: asked.hasImage ? [image, question] : [question] },
      ...(before === undefined ? [] : [before]),
      ...(asked.after?.calls ?? []).map(({ id }) => ({ role: "tool" as const, tool_call_id: id, content: result })),
    ];
    const body = {
      ...{ model: asked.model, messages },
      ...(asked.hasTools && { tools: [{ type: "function" as const, function: { name: "weather", parameters } }] }),
      ...(asked.wantsJson && {
        response_format: { type: "json_schema" as const, json_schema: { name: "place", schema, strict: true } },
      }),
    };
    return asked.stream
      ? await completions.stream({ ...body, stream_options: { include_usage: true } }).finalChatCompletion()
      : await completions.create(body);
  };
  return {
    name: "/v1/chat/completions",
    ask: async (asked) => saidByOpenai(await ask(asked)),
    refused: async (asked) => {
      const error = await failureOf(ask(asked), OpenAI.APIError);
      return { status: error.status ?? 0, code: error.code, retryAfterMs: millisecondsOf(error.headers) };
    },
  };
}

function saidByOpenai({ choices: [choice], usage }: OpenAI.ChatCompletion): Said {
  const calls = (choice?.message.tool_calls ?? []).map((call) => {
    if (call.type !== "function") throw new Error(`a call of another type: ${call.type}`);
    return { id: call.id, name: call.function.name, input: JSON.parse(call.function.arguments) as unknown };
  });
  const written = (usage as { cache_creation_input_tokens?: number } | undefined)?.cache_creation_input_tokens;
  return {
    text: choice?.message.content ?? "",
    calls,
    end: choice?.finish_reason === "stop" ? "stop" : choice?.finish_reason === "tool_calls" ? "tools" : "other",
    used: {
      input: usage?.prompt_tokens ?? 0,
      cacheRead: usage?.prompt_tokens_details?.cached_tokens ?? 0,
      cacheWrite: written ?? 0,
      output: usage?.completion_tokens ?? 0,
      reasoning: usage?.completion_tokens_details?.reasoning_tokens ?? 0,
    },
    message: choice?.message,
  };
}

/** OpenAI's own client, by its newer wire. */
export function responsesClient(url: string, apiKey: string): DoorClient {
  const { responses } = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
  const ask = async (asked: Question) => {
    const image = {
      type: "input_image" as const,
      detail: "auto" as const,
      image_url: `data:image/png;base64,${pixel}`,
    };
    const text = { ...question, type: "input_text" as const };
    const results = (asked.after?.calls ?? []).map(({ id }) => ({
      ...{ type: "function_call_output" as const, call_id: id, output: result },
    }));
    const input: OpenAI.Responses.ResponseInput = [
      { role: "user", content: asked.hasImage ? [image, text] : [text] },
      ...((asked.after?.message as OpenAI.Responses.ResponseInput | undefined) ?? []),
      ...results,
    ];
    const body = {
      ...{ model: asked.model, input },
      ...(asked.hasTools && { tools: [{ type: "function" as const, name: "weather", parameters, strict: false }] }),
      ...(asked.wantsJson && {
        text: { format: { type: "json_schema" as const, name: "place", schema, strict: true } },
      }),
    };
    return asked.stream ? await responses.stream(body).finalResponse() : await responses.create(body);
  };
  return {
    name: "/v1/responses",
    ask: async (asked) => saidByResponses(await ask(asked)),
    refused: async (asked) => {
      const error = await failureOf(ask(asked), OpenAI.APIError);
      return { status: error.status ?? 0, code: error.code, retryAfterMs: millisecondsOf(error.headers) };
    },
  };
}

function saidByResponses({ output, output_text, status, usage }: OpenAI.Responses.Response): Said {
  const calls = output.flatMap((item) =>
    item.type === "function_call"
      ? [{ id: item.call_id, name: item.name, input: JSON.parse(item.arguments) as unknown }]
      : [],
  );
  const written = (usage as { cache_creation_input_tokens?: number } | undefined)?.cache_creation_input_tokens;
  return {
    text: output_text,
    calls,
    end: status !== "completed" ? "other" : calls.length > 0 ? "tools" : "stop",
    used: {
      input: usage?.input_tokens ?? 0,
      cacheRead: usage?.input_tokens_details.cached_tokens ?? 0,
      cacheWrite: written ?? 0,
      output: usage?.output_tokens ?? 0,
      reasoning: usage?.output_tokens_details.reasoning_tokens ?? 0,
    },
    message: output,
  };
}

/** Anthropic's own client. */
export function anthropicClient(url: string, apiKey: string): DoorClient {
  const { messages: api } = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });
  const ask = async (asked: Question) => {
    const source = { type: "base64" as const, media_type: "image/png" as const, data: pixel };
    const results = (asked.after?.calls ?? []).map(({ id }) => ({
      ...{ type: "tool_result" as const, tool_use_id: id, content: result },
    }));
    const messages: Anthropic.MessageParam[] = [
      { role: "user", content: asked.hasImage ? [{ type: "image", source }, question] : [question] },
      ...(asked.after === undefined
        ? []
        : [
            { role: "assistant" as const, content: asked.after.message as Anthropic.ContentBlockParam[] },
            { role: "user" as const, content: results },
          ]),
    ];
    const body = {
      ...{ model: asked.model, max_tokens: 100, messages },
      ...(asked.hasTools && { tools: [{ name: "weather", input_schema: parameters }] }),
      ...(asked.wantsJson && { output_config: { format: { type: "json_schema" as const, schema } } }),
    };
    return asked.stream ? await api.stream(body).finalMessage() : await api.create(body);
  };
  return {
    name: "/v1/messages",
    ask: async (asked) => saidByAnthropic(await ask(asked)),
    refused: async (asked) => {
      const error = await failureOf(ask(asked), Anthropic.APIError);
      return { status: error.status ?? 0, code: error.errorCode, retryAfterMs: millisecondsOf(error.headers) };
    },
  };
}

function saidByAnthropic({ content, stop_reason, usage }: Anthropic.Message): Said {
  const read = usage.cache_read_input_tokens ?? 0;
  const written = usage.cache_creation_input_tokens ?? 0;
  return {
    text: content.map((block) => (block.type === "text" ? block.text : "")).join(""),
    calls: content.flatMap((block) => (block.type === "tool_use" ? [block] : [])),
    end: stop_reason === "end_turn" ? "stop" : stop_reason === "tool_use" ? "tools" : "other",
    // Anthropic counts what is cached beside the rest, and reasoning not at all.
    used: {
      ...{ input: usage.input_tokens + read + written, cacheRead: read, cacheWrite: written },
      ...{ output: usage.output_tokens, reasoning: undefined },
    },
    message: content,
  };
}

/** The client generated from the protos. */
export function grpcClient(url: string, apiKey: string): DoorClient {
  const client = createCompletionClient({ baseUrl: url, apiKey, retries: 0 });
  const ask = async (asked: Question) => {
    const chat = chatFor(asked);
    if (!asked.stream) return client.complete({ chat });
    return gathered(client.streamComplete({ chat }));
  };
  return {
    name: "gRPC",
    ask: async (asked) => {
      const { choices, usage } = await ask(asked);
      const [choice] = choices;
      if (choice === undefined || usage === undefined) throw new Error("no answer");
      return saidByGrpc(choice, usage);
    },
    refused: async (asked) => {
      const error = await failureOf(ask(asked), ConnectError);
      const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
      return {
        status: error.code,
        code: error.findDetails(ErrorInfoSchema)[0]?.reason,
        retryAfterMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
      };
    },
  };
}

function chatFor(asked: Question) {
  const image = { content: { case: "image" as const, value: { url: `data:image/png;base64,${pixel}` } } };
  const text = { content: { case: "other" as const, value: question } };
  const before = asked.after?.message as Choice | undefined;
  const results = (asked.after?.calls ?? []).map(({ id }) => ({ role: Role.TOOL, toolCallId: id, text: result }));
  const value = { name: "place", schema, strict: true };
  return {
    model: asked.model,
    messages: [
      { role: Role.USER, parts: asked.hasImage ? [image, text] : [text] },
      ...(before === undefined ? [] : [answered(before)]),
      ...results,
    ],
    ...(asked.hasTools && { tools: [{ name: "weather", parameters }] }),
    ...(asked.wantsJson && { responseFormat: { format: { case: "jsonSchema" as const, value } } }),
  };
}

/** An answer as the next request has it. */
export function answered({ text, toolCalls, reasoningBlocks, extra }: Choice) {
  return { role: Role.ASSISTANT, text, toolCalls, reasoningBlocks, ...(extra !== undefined && { extra }) };
}

/** A stream's pieces, put together as a whole answer. */
export async function gathered(stream: AsyncIterable<StreamCompleteResponse>): Promise<CompleteResponse> {
  const choice = create(ChoiceSchema);
  const answer = create(CompleteResponseSchema, { choices: [choice] });
  for await (const { event } of stream) {
    if (event.case === "finished") choice.finishReason = event.value.finishReason;
    if (event.case === "ended" && event.value.usage !== undefined) answer.usage = event.value.usage;
    if (event.case !== "delta") continue;
    const { text, reasoning, signature, redactedReasoning, toolCalls, extra } = event.value;
    choice.text += text;
    choice.reasoning += reasoning;
    if (extra !== undefined) choice.extra = { ...choice.extra, ...extra };
    if (reasoning !== "" || signature !== "") addReasoning(choice.reasoningBlocks, reasoning, signature);
    if (redactedReasoning !== "")
      choice.reasoningBlocks.push(create(ReasoningBlockSchema, { redacted: redactedReasoning }));
    for (const piece of toolCalls) {
      let call = choice.toolCalls[piece.index];
      if (call === undefined) {
        const { id, name, extra: own } = piece;
        call = create(ToolCallSchema, { id, name, ...(own !== undefined && { extra: own }) });
        choice.toolCalls[piece.index] = call;
      }
      call.arguments += piece.arguments;
    }
  }
  return answer;
}

function addReasoning(blocks: ReasoningBlock[], text: string, signature: string): void {
  const last = blocks.at(-1);
  const isOpen = last !== undefined && last.signature === "" && last.redacted === "";
  if (!isOpen) blocks.push(create(ReasoningBlockSchema, { text, signature }));
  else {
    last.text += text;
    last.signature = signature;
  }
}

function saidByGrpc(choice: Choice, usage: Usage): Said {
  const { STOP, TOOL_CALLS } = FinishReason;
  return {
    text: choice.text,
    calls: choice.toolCalls.map(({ id, name, arguments: text }) => ({ id, name, input: JSON.parse(text) as unknown })),
    end: choice.finishReason === STOP ? "stop" : choice.finishReason === TOOL_CALLS ? "tools" : "other",
    used: {
      ...{ input: Number(usage.inputTokens), output: Number(usage.outputTokens) },
      ...{ cacheRead: Number(usage.cacheReadInputTokens), cacheWrite: Number(usage.cacheWriteInputTokens) },
      reasoning: Number(usage.reasoningOutputTokens),
    },
    message: choice,
  };
}

/** @returns what a call that must fail failed with. */
async function failureOf<E extends Error>(
  call: Promise<unknown>,
  kind: abstract new (...args: never) => E,
): Promise<E> {
  const thrown = await call.then(
    () => new Error("it did not fail"),
    (error: unknown) => error,
  );
  if (!(thrown instanceof kind)) throw thrown;
  return thrown;
}

function millisecondsOf(headers: Headers | undefined): number | undefined {
  const text = headers?.get("retry-after-ms");
  return text == null ? undefined : Number(text);
}
