/** OpenAI's responses: what an answer says, as neutral events. */

import type { DeltaEvent, JsonObject, OutputEvent } from "../completion.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { SseSplitter } from "./sse.ts";

type Pieces = Omit<DeltaEvent, "type" | "choice">;

/** Reads one response, by the events of its stream or whole. */
export class ResponseEvents {
  /** The neutral index of each call, by its place in the output. */
  readonly #calls = new Map<number, number>();

  /** @param event of a stream. */
  read(event: JsonObject): readonly OutputEvent[] {
    const response = objectOf(event.response) ?? {};
    switch (event.type) {
      case "response.created":
        return [startOf(response)];
      case "response.output_text.delta":
        return delta({ ...textIn(event.delta), ...logprobsOf(event.logprobs) });
      case "response.output_text.annotation.added":
        return delta(annotationsOf([event.annotation ?? null]));
      case "response.refusal.delta":
        return delta({ refusal: textOf(event.delta) ?? "" });
      case "response.reasoning_summary_part.added":
        return countOf(event.summary_index) === 0 ? [] : delta({ reasoning: "\n\n" });
      case "response.reasoning_summary_text.delta":
      case "response.reasoning_text.delta":
        return delta({ reasoning: textOf(event.delta) ?? "" });
      case "response.output_item.added":
        return this.#beginCall(objectOf(event.item) ?? {}, countOf(event.output_index) ?? 0, "");
      case "response.function_call_arguments.delta": {
        const index = this.#calls.get(countOf(event.output_index) ?? -1);
        return index === undefined ? [] : delta({ toolCalls: [{ index, arguments: textOf(event.delta) ?? "" }] });
      }
      case "response.completed":
      case "response.incomplete":
        return [this.#finish(response)];
      default:
        return [];
    }
  }

  /** A whole response, `start` to `finish`. */
  whole(response: JsonObject): readonly OutputEvent[] {
    const events: OutputEvent[] = [startOf(response)];
    for (const [place, value] of arrayOf(response.output).entries()) {
      const item = objectOf(value) ?? {};
      if (item.type === "reasoning") {
        const texts = [...arrayOf(item.summary), ...arrayOf(item.content)].map(
          (part) => textOf(objectOf(part)?.text) ?? "",
        );
        if (texts.length > 0) events.push(...delta({ reasoning: texts.join("\n\n") }));
      } else if (item.type === "message") {
        events.push(...arrayOf(item.content).filter(isObject).flatMap(partEvents));
      } else {
        events.push(...this.#beginCall(item, place, textOf(item.arguments) ?? ""));
      }
    }
    return [...events, this.#finish(response)];
  }

  #beginCall(item: JsonObject, place: number, text: string): readonly OutputEvent[] {
    if (item.type !== "function_call") return [];
    const index = this.#calls.size;
    this.#calls.set(place, index);
    const id = textOf(item.call_id) ?? textOf(item.id) ?? `call_${index}`;
    return delta({ toolCalls: [{ index, id, name: textOf(item.name) ?? "", arguments: text }] });
  }

  #finish(response: JsonObject): OutputEvent {
    return { type: "finish", choice: 0, reason: finishReasonOf(response, this.#calls.size > 0) };
  }
}

/** Everything a response says, given its stream or its body. @returns nothing if it is no response. */
export function eventsOfResponse(bytes: Buffer, isStream: boolean): readonly OutputEvent[] {
  const events = new ResponseEvents();
  if (!isStream) {
    const body = parseJson(bytes.toString());
    return isObject(body) ? events.whole(body) : [];
  }
  return new SseSplitter(bytes.length + 1).push(bytes).flatMap(({ data }) => {
    const event = parseJson(data ?? "");
    return isObject(event) ? events.read(event) : [];
  });
}

/** What the end of a response that passes as bytes says of it. */
export function endFacts(response: JsonObject): { model: string | undefined; finishReasons: readonly string[] } {
  const hasCalls = arrayOf(response.output).some((item) => objectOf(item)?.type === "function_call");
  return { model: textOf(response.model), finishReasons: [finishReasonOf(response, hasCalls)] };
}

/** In chat's words. */
function finishReasonOf(response: JsonObject, hasCalls: boolean): string {
  if (response.status !== "incomplete") return hasCalls ? "tool_calls" : "stop";
  const why = textOf(objectOf(response.incomplete_details)?.reason);
  return why === "content_filter" ? why : "length";
}

function startOf(response: JsonObject): OutputEvent {
  return {
    type: "start",
    id: textOf(response.id) ?? "",
    model: textOf(response.model) ?? "",
    createdS: Math.floor(Number(response.created_at) || 0),
  };
}

function partEvents(part: JsonObject): readonly OutputEvent[] {
  if (part.type === "refusal") return delta({ refusal: textOf(part.refusal) ?? "" });
  return delta({ ...textIn(part.text), ...annotationsOf(part.annotations), ...logprobsOf(part.logprobs) });
}

function textIn(value: JsonObject[string] | undefined): Pieces {
  const text = textOf(value);
  return text === undefined ? {} : { text };
}

/** Chat nests what here is flat. */
function annotationsOf(value: JsonObject[string] | undefined): Pieces {
  const annotations = arrayOf(value)
    .filter(isObject)
    .map(({ type = "url_citation", ...fields }) => ({ type, [String(type)]: fields }));
  return annotations.length === 0 ? {} : { annotations };
}

function logprobsOf(value: JsonObject[string] | undefined): Pieces {
  const content = arrayOf(value);
  return content.length === 0 ? {} : { logprobs: { content: [...content] } };
}

function delta(pieces: Pieces): readonly OutputEvent[] {
  return Object.keys(pieces).length === 0 ? [] : [{ type: "delta", choice: 0, ...pieces }];
}
