/** OpenAI's responses: writing an answer from neutral events. */

import type { DeltaEvent, FinishEvent, JsonObject, StartEvent, Usage } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import { encodeErrorBody } from "./openai-error.ts";
import { ResponseOutput, type Told } from "./responses-output.ts";
import { usageFields } from "./responses-usage.ts";

type AnswerEvent = StartEvent | DeltaEvent | FinishEvent;

/** Why a response is not complete, by chat's reason for its end. */
const incompletions: ReadonlyMap<string, string> = new Map([
  ["length", "max_output_tokens"],
  ["content_filter", "content_filter"],
]);

/** What of its request a response says again, and what it says where the request did not. */
const echoed: JsonObject = {
  instructions: null,
  max_output_tokens: null,
  max_tool_calls: null,
  metadata: {},
  parallel_tool_calls: true,
  reasoning: { effort: null, summary: null },
  temperature: 1,
  text: { format: { type: "text" } },
  tool_choice: "auto",
  tools: [],
  top_logprobs: 0,
  top_p: 1,
  truncation: "disabled",
  user: null,
};

/** Writes the events of a streamed response. It has one choice; of an answer with more the first is written. */
export class ResponseStreamEncoder {
  readonly #response: WrittenResponse;
  #sequence = 0;

  /** @param request its body, as the caller sent it. */
  constructor(request: JsonObject) {
    this.#response = new WrittenResponse(request);
  }

  /** @returns the frames for an event; undefined if there are none. */
  encode(event: AnswerEvent): Buffer | undefined {
    const told = this.#response.add(event);
    return told.length === 0 ? undefined : this.#frames(told);
  }

  /** @returns what ends the stream. */
  end(usage: Usage): Buffer {
    return this.#frames(this.#response.end(usage).told);
  }

  /** An error in place of the rest: chat's form of it and this wire's, for clients look for the one or the other. */
  fail(error: GatewayError): string {
    const { code, message, facts } = error;
    const body = JSON.parse(encodeErrorBody(error)) as JsonObject;
    const told = { type: "error", ...body, code, message, param: facts.param ?? null };
    return this.#frames([told]).toString();
  }

  #frames(events: readonly Told[]): Buffer {
    let frames = "";
    for (const { type, ...fields } of events) {
      frames += `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: this.#sequence, ...fields })}\n\n`;
      this.#sequence += 1;
    }
    return Buffer.from(frames);
  }
}

/** Writes one response from the events of its making. */
export class ResponseAnswerEncoder {
  readonly #response: WrittenResponse;

  /** @param request its body, as the caller sent it. */
  constructor(request: JsonObject) {
    this.#response = new WrittenResponse(request);
  }

  add(event: AnswerEvent): void {
    this.#response.add(event);
  }

  end(usage: Usage): Buffer {
    return Buffer.from(JSON.stringify(this.#response.end(usage).response));
  }
}

/** A response as it comes about. */
class WrittenResponse {
  readonly #echo: JsonObject;
  #start: StartEvent = { type: "start", id: "", model: "", createdS: 0 };
  #output = new ResponseOutput("");
  #reason = "stop";

  constructor(request: JsonObject) {
    const said = Object.keys(echoed).map((name) => [name, request[name] ?? echoed[name]] as const);
    this.#echo = Object.fromEntries(said) as JsonObject;
  }

  /** @returns what a stream tells of it. */
  add(event: AnswerEvent): readonly Told[] {
    if (event.type === "start") {
      this.#start = event;
      this.#output = new ResponseOutput(event.id);
      const response = this.#fields("in_progress", {});
      return [
        { type: "response.created", response },
        { type: "response.in_progress", response },
      ];
    }
    if (event.choice !== 0) return [];
    if (event.type === "delta") return this.#output.add(event);
    this.#reason = event.reason;
    return [];
  }

  /** @returns the whole response, and what a stream tells at its end. */
  end(usage: Usage): { response: JsonObject; told: readonly Told[] } {
    const reason = incompletions.get(this.#reason);
    const status = reason === undefined ? "completed" : "incomplete";
    const told = this.#output.end(status);
    const response = this.#fields(status, {
      usage: usageFields(usage),
      incomplete_details: reason === undefined ? null : { reason },
    });
    return { response, told: [...told, { type: `response.${status}`, response }] };
  }

  #fields(status: string, ended: JsonObject): JsonObject {
    const { id, model, createdS } = this.#start;
    return {
      id: `resp_${id}`,
      object: "response",
      created_at: createdS,
      status,
      background: false,
      error: null,
      incomplete_details: null,
      model,
      output: this.#output.items,
      previous_response_id: null,
      // Only the provider of this wire keeps answers.
      store: false,
      usage: null,
      ...this.#echo,
      ...ended,
    };
  }
}
