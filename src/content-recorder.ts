import type { CompletionEvent, CompletionRequest, Json, JsonObject } from "./completion.ts";
import { GatewayError } from "./errors.ts";
import type { MessageContent, RecordedContent } from "./telemetry/telemetry.ts";
import { messageEvents, readMessage } from "./wires/anthropic-answer.ts";
import { MessageStreamReader } from "./wires/anthropic-stream.ts";
import { GatheredChoice } from "./wires/gathered-choice.ts";
import { arrayOf, isObject, objectOf, parseJson, textOf } from "./wires/json.ts";
import { neutralStream, neutralWhole } from "./wires/openai-chat-neutral.ts";
import { eventsOfResponse } from "./wires/responses-events.ts";

/** The most that is recorded of one attempt, in bytes; of longer ones nothing is. */
const contentBytesMax = 1_048_576;

/** What is asked and answered in one attempt, for its span: kept as it came, and worked out when the span is exported. */
export class ContentRecorder {
  readonly #request: CompletionRequest;
  readonly #pieces: Buffer[] = [];
  readonly #events: CompletionEvent[] = [];
  #bytes: number;

  constructor(request: CompletionRequest) {
    this.#request = request;
    this.#bytes = request.inputTokensMax;
  }

  add(event: CompletionEvent): void {
    const raw = event.type === "raw" ? event.bytes : event.type === "end" ? event.raw : undefined;
    if (raw !== undefined) {
      this.#bytes += raw.length;
      if (this.#bytes <= contentBytesMax) this.#pieces.push(raw);
    } else if (event.type === "delta" || event.type === "finish") {
      this.#bytes += event.type === "delta" ? sizeOf(event) : 1;
      if (this.#bytes <= contentBytesMax) this.#events.push(event);
    }
  }

  /** @returns undefined if it is too much. */
  get content(): RecordedContent | undefined {
    if (this.#bytes > contentBytesMax) return undefined;
    return { bytes: this.#bytes, read: () => this.#read() };
  }

  #read(): MessageContent {
    const request = this.#request;
    const body = request.chat();
    const messages = arrayOf(body.messages).filter(isObject);
    const isSystem = ({ role }: JsonObject) => role === "system" || role === "developer";
    const system = messages.filter(isSystem).flatMap(partsOf);
    const input =
      request.operation === "chat" ? messages.filter((each) => !isSystem(each)).map(messageOf) : plainInput(body);
    return {
      input: listText(input),
      output: listText(answersOf(this.#answerEvents())),
      systemInstructions: listText(system),
      toolDefinitions: listText(arrayOf(body.tools)),
    };
  }

  #answerEvents(): readonly CompletionEvent[] {
    const { wire, stream, choiceCount, operation } = this.#request;
    if (this.#events.length > 0 || operation !== "chat") return this.#events;
    const bytes = Buffer.concat(this.#pieces);
    if (wire === "openai-chat") return (stream ? neutralStream(bytes, choiceCount) : neutralWhole(bytes)) ?? [];
    if (wire === "openai-responses") return eventsOfResponse(bytes, stream);
    if (wire !== "anthropic-messages") return [];
    if (stream) {
      const reader = new MessageStreamReader({ lane: "neutral", readsJsonTool: false, nowMs: 0 });
      return [...reader.push(bytes), ...reader.end()];
    }
    const answer = readMessage(bytes);
    return answer instanceof GatewayError ? [] : messageEvents(answer, { readsJsonTool: false, nowMs: 0 });
  }
}

/** Roughly, in bytes. */
function sizeOf({ text, reasoning, refusal, toolCalls }: CompletionEvent & { type: "delta" }): number {
  const calls =
    toolCalls?.reduce((sum, call) => sum + (call.arguments?.length ?? 0) + (call.name?.length ?? 0), 0) ?? 0;
  return (text?.length ?? 0) + (reasoning?.length ?? 0) + (refusal?.length ?? 0) + calls;
}

function listText(list: readonly Json[]): string | undefined {
  return list.length === 0 ? undefined : JSON.stringify(list);
}

/** A message of OpenAI's as OpenTelemetry has it: `{"role", "parts": [{"type": "text", "content"}, ...]}`. */
function messageOf(message: JsonObject): JsonObject {
  return { role: message.role ?? "user", parts: partsOf(message) };
}

function partsOf(message: JsonObject): JsonObject[] {
  const { content, role } = message;
  if (role === "tool") {
    return [{ type: "tool_call_response", id: message.tool_call_id ?? null, response: content ?? null }];
  }
  const texts = typeof content === "string" ? [textPart(content)] : arrayOf(content).filter(isObject).map(partOf);
  return [...texts, ...arrayOf(message.tool_calls).filter(isObject).map(toolCallPart)];
}

function textPart(content: string): JsonObject {
  return { type: "text", content };
}

/** What is no text is named and not shown: images and files are long. */
function partOf(part: JsonObject): JsonObject {
  const text = textOf(part.text);
  return text === undefined ? { type: part.type ?? "unknown" } : textPart(text);
}

function toolCallPart(call: JsonObject): JsonObject {
  const called = objectOf(call.function);
  const given = textOf(called?.arguments) ?? "";
  return { type: "tool_call", id: call.id ?? null, name: called?.name ?? null, arguments: jsonOr(given) };
}

function jsonOr(text: string): Json {
  const value = parseJson(text) as Json | undefined;
  return value === undefined ? text : value;
}

/** What is not chat has no messages. */
function plainInput(body: JsonObject): JsonObject[] {
  const given = body.input ?? body.prompt ?? body.query;
  const texts = [given].flat().filter((text) => typeof text === "string");
  return texts.length === 0 ? [] : [{ role: "user", parts: texts.map(textPart) }];
}

function answersOf(events: readonly CompletionEvent[]): JsonObject[] {
  const choices = new Map<number, GatheredChoice>();
  const at = (index: number) => {
    const choice = choices.get(index) ?? new GatheredChoice();
    choices.set(index, choice);
    return choice;
  };
  for (const event of events) {
    if (event.type === "delta") at(event.choice).add(event);
    else if (event.type === "finish") at(event.choice).reason = event.reason;
  }
  return [...choices.values()].map((choice) => ({
    role: "assistant",
    parts: [
      ...(choice.reasoning === undefined ? [] : [{ type: "reasoning", content: choice.reasoning }]),
      ...(choice.text === undefined ? [] : [textPart(choice.text)]),
      ...(choice.refusal === undefined ? [] : [{ type: "refusal", content: choice.refusal }]),
      ...[...choice.toolCalls.values()].map(({ id, name, arguments: given }) => ({
        ...{ type: "tool_call", id, name },
        arguments: jsonOr(given),
      })),
    ],
    finish_reason: choice.reason ?? "error",
  }));
}
