/** What CompletionService's callers ask, in the gateway's words. Pure. */

import type { CompletionRequest, Json, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import {
  type Chat,
  type Message,
  type Part,
  type ReasoningBlock,
  type ResponseFormat,
  Role,
  type Tool,
  type ToolChoice,
} from "../gen/tollgate/completion/v1/completion_pb.ts";
import { chatRequestOf } from "../wires/openai-chat.ts";
import { depthFault } from "../wires/request-body.ts";

const roles = new Map<Role, string>([
  [Role.SYSTEM, "system"],
  [Role.DEVELOPER, "developer"],
  [Role.USER, "user"],
  [Role.ASSISTANT, "assistant"],
  [Role.TOOL, "tool"],
]);

/**
 * Turns a typed conversation into the neutral form.
 *
 * @throws GatewayError `invalid_request` for what the schema's own rules cannot say.
 */
export function completionRequest(chat: Chat, stream: boolean): CompletionRequest {
  const body = chatBody(chat);
  const request = depthFault(body) ?? chatRequestOf({ body, size: Buffer.byteLength(JSON.stringify(body)) });
  if (request instanceof GatewayError) {
    throw invalid(request.message, `chat.extra.${request.facts.param ?? ""}`);
  }
  return { ...request, stream, includeUsage: stream };
}

/** The conversation in OpenAI's JSON shape, `extra` beside the typed fields. */
function chatBody(chat: Chat): JsonObject {
  const body: { [key: string]: Json | undefined } = {
    model: chat.model,
    messages: chat.messages.map(messageBody),
    max_completion_tokens: chat.maxOutputTokens,
    temperature: finite(chat.temperature, "temperature"),
    top_p: finite(chat.topP, "top_p"),
    stop: nonEmpty(chat.stop),
    n: chat.choiceCount,
    seed: seedOf(chat.seed),
    presence_penalty: finite(chat.presencePenalty, "presence_penalty"),
    frequency_penalty: finite(chat.frequencyPenalty, "frequency_penalty"),
    tools: nonEmpty(chat.tools.map(toolBody)),
    tool_choice: toolChoiceBody(chat.toolChoice),
    parallel_tool_calls: chat.parallelToolCalls,
    response_format: responseFormatBody(chat.responseFormat),
    reasoning_effort: nonEmpty(chat.reasoningEffort),
    logprobs: chat.logprobs,
    top_logprobs: chat.topLogprobs,
    user: nonEmpty(chat.user),
    tags: nonEmpty(chat.tags),
  };
  for (const key of ["stream", "stream_options"]) {
    if (Object.hasOwn(chat.extra ?? {}, key)) {
      throw invalid("The method called decides whether to stream.", `chat.extra.${key}`);
    }
  }
  return withExtra(defined(body), chat.extra, "chat");
}

/** The typed fields of the message at `path`, and its `extra` beside them. */
function withExtra(typed: JsonObject, extra: JsonObject | undefined, path: string): JsonObject {
  for (const key of Object.keys(extra ?? {})) {
    if (!Object.hasOwn(typed, key)) continue;
    throw invalid(`\`${key}\` is given twice, in a field of its own and in \`extra\`.`, `${path}.extra.${key}`);
  }
  return { ...typed, ...extra };
}

function messageBody(message: Message, position: number): JsonObject {
  const { role, text, parts, name, toolCalls, toolCallId, reasoningBlocks, extra } = message;
  const path = `chat.messages[${position}]`;
  if (text !== "" && parts.length > 0) {
    throw invalid("A message has either `text` or `parts`, not both.", `${path}.parts`);
  }
  const calls = toolCalls.map((call, index) => {
    const typed = { id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } };
    return withExtra(typed, call.extra, `${path}.tool_calls[${index}]`);
  });
  // OpenAI's word for an assistant that said nothing and called tools.
  const nothing = calls.length > 0 ? null : "";
  const typed = defined({
    role: roles.get(role),
    content: parts.length > 0 ? parts.map(partBody) : text === "" ? nothing : text,
    name: nonEmpty(name),
    tool_calls: nonEmpty(calls),
    tool_call_id: nonEmpty(toolCallId),
    thinking_blocks: nonEmpty(reasoningBlocks.map(thinkingBlock)),
  });
  return withExtra(typed, extra, path);
}

/** LiteLLM's word for a block of reasoning, which is the neutral form's. */
function thinkingBlock({ text, signature, redacted }: ReasoningBlock): JsonObject {
  if (redacted !== "") return { type: "redacted_thinking", data: redacted };
  return defined({ type: "thinking", thinking: text, signature: nonEmpty(signature) });
}

function partBody({ content }: Part): Json {
  switch (content.case) {
    case "text":
      return { type: "text", text: content.value };
    case "image":
      return {
        type: "image_url",
        image_url: defined({ url: content.value.url, detail: nonEmpty(content.value.detail) }),
      };
    case "other":
      return content.value;
    default:
      // The schema requires one of the three, and was checked before.
      return null;
  }
}

function toolBody({ name, description, parameters, strict, extra }: Tool, position: number): JsonObject {
  const called = defined({ name, description: nonEmpty(description), parameters, strict });
  return withExtra({ type: "function", function: called }, extra, `chat.tools[${position}]`);
}

function toolChoiceBody(toolChoice: ToolChoice | undefined): Json | undefined {
  const choice = toolChoice?.choice;
  return choice?.case === "function" ? { type: "function", function: { name: choice.value } } : choice?.value;
}

function responseFormatBody(responseFormat: ResponseFormat | undefined): Json | undefined {
  const format = responseFormat?.format;
  if (format?.case !== "jsonSchema") return format?.value === undefined ? undefined : { type: format.value };
  const { name, description, schema, strict } = format.value;
  return { type: "json_schema", json_schema: defined({ name, description: nonEmpty(description), schema, strict }) };
}

function seedOf(seed: bigint | undefined): number | undefined {
  if (seed === undefined) return undefined;
  const number = Number(seed);
  if (!Number.isSafeInteger(number)) throw invalid("JSON cannot carry a seed beyond 2^53.", "chat.seed");
  return number;
}

function finite(value: number | undefined, field: string): number | undefined {
  if (value !== undefined && !Number.isFinite(value)) throw invalid(`\`${field}\` must be finite.`, `chat.${field}`);
  return value;
}

function nonEmpty<T extends string | readonly unknown[]>(value: T): T | undefined {
  return value.length === 0 ? undefined : value;
}

/** Without the members that are undefined, which JSON does not have. */
function defined(members: { [key: string]: Json | undefined }): JsonObject {
  const object: JsonObject = {};
  for (const [key, value] of Object.entries(members)) {
    if (value !== undefined) object[key] = value;
  }
  return object;
}

function invalid(message: string, param: string): GatewayError {
  return new GatewayError("invalid_request", message, { param });
}
