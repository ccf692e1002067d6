/** Google's generateContent: reading an answer, whole or piece by piece: the pieces of a stream have a whole answer's form. */

import type {
  CompletionEvent,
  DeltaEvent,
  Json,
  JsonObject,
  OutputEvent,
  ToolCallDelta,
  Usage,
} from "../completion.ts";
import { readAnnotations } from "./gemini-grounding.ts";
import { readGeminiUsage } from "./gemini-usage.ts";
import { arrayOf, countOf, objectOf, textOf } from "./json.ts";

/** What an answer is given that Google leaves out. */
export interface AnswerFacts {
  /** The model that was asked. */
  readonly model: string;
  /** Unix time, seconds. */
  readonly nowS: number;
  /** Makes an id for an answer or a tool call that has none. */
  readonly newId: () => string;
}

/** Why a candidate ended, in OpenAI's words; of Google's others the lower case. */
const finishReasons: Readonly<Record<string, string>> = {
  ...{ STOP: "stop", FINISH_REASON_UNSPECIFIED: "stop", MAX_TOKENS: "length", CONTINUATION: "length" },
  ...{ SAFETY: "content_filter", RECITATION: "content_filter", BLOCKLIST: "content_filter" },
  ...{ PROHIBITED_CONTENT: "content_filter", SPII: "content_filter", LANGUAGE: "content_filter" },
  ...{ IMAGE_SAFETY: "content_filter", IMAGE_PROHIBITED_CONTENT: "content_filter", IMAGE_RECITATION: "content_filter" },
};

/** One candidate as far as it has come. */
interface Candidate {
  text: string;
  calls: number;
  reason: string | undefined;
  grounding: JsonObject | undefined;
}

/** Turns pieces of an answer into neutral events. */
export class GeminiAnswer {
  readonly #facts: AnswerFacts;
  readonly #candidates = new Map<number, Candidate>();
  #started = false;
  #isBlocked = false;
  #responseId: string | undefined;
  #usage: Usage | undefined;

  constructor(facts: AnswerFacts) {
    this.#facts = facts;
  }

  /** Whether anything of an answer has come. */
  get isStarted(): boolean {
    return this.#started;
  }

  /** Whether every candidate has said why it ended, or there is none because the prompt was refused. */
  get isWhole(): boolean {
    if (this.#isBlocked) return true;
    return this.#candidates.size > 0 && [...this.#candidates.values()].every(({ reason }) => reason !== undefined);
  }

  /** Takes a piece. @returns its events. */
  push(body: JsonObject): OutputEvent[] {
    const events: OutputEvent[] = [];
    this.#usage = readGeminiUsage(body.usageMetadata) ?? this.#usage;
    const candidates = arrayOf(body.candidates);
    const feedback = objectOf(body.promptFeedback);
    const blockReason = textOf(feedback?.blockReason);
    if (!this.#started && (candidates.length > 0 || blockReason !== undefined)) events.push(this.#start(body));
    if (blockReason !== undefined && this.#candidates.size === 0) {
      this.#isBlocked = true;
      events.push({
        type: "delta",
        choice: 0,
        refusal: textOf(feedback?.blockReasonMessage) ?? `The prompt was blocked: ${blockReason}.`,
      });
    }
    candidates.forEach((value, position) => {
      const candidate = objectOf(value) ?? {};
      this.#readCandidate(events, countOf(candidate.index) ?? position, candidate);
    });
    return events;
  }

  /** The answer is whole. @returns the last events: why each candidate ended, and `end`. */
  end(): CompletionEvent[] {
    const events: CompletionEvent[] = [];
    if (this.#isBlocked) events.push({ type: "finish", choice: 0, reason: "content_filter" });
    for (const [choice, candidate] of this.#candidates) {
      const { grounding, calls, reason = "STOP" } = candidate;
      if (grounding !== undefined) {
        const annotations = readAnnotations(grounding, candidate.text);
        const providerFields = { grounding_metadata: [grounding] };
        events.push({ type: "delta", choice, ...(annotations.length > 0 && { annotations }), providerFields });
      }
      const finished = finishReasons[reason] ?? reason.toLowerCase();
      events.push({ type: "finish", choice, reason: finished === "stop" && calls > 0 ? "tool_calls" : finished });
    }
    events.push({ type: "end", usage: this.#usage, responseId: this.#responseId, raw: undefined });
    return events;
  }

  #start(body: JsonObject): OutputEvent {
    this.#started = true;
    this.#responseId = textOf(body.responseId);
    const createdMs = Date.parse(textOf(body.createTime) ?? "");
    return {
      type: "start",
      id: this.#responseId ?? `chatcmpl-${this.#facts.newId()}`,
      model: textOf(body.modelVersion) ?? this.#facts.model,
      createdS: Number.isNaN(createdMs) ? this.#facts.nowS : Math.floor(createdMs / 1000),
    };
  }

  #readCandidate(events: OutputEvent[], choice: number, value: JsonObject): void {
    let candidate = this.#candidates.get(choice);
    if (candidate === undefined) {
      candidate = { text: "", calls: 0, reason: undefined, grounding: undefined };
      this.#candidates.set(choice, candidate);
    }
    for (const part of arrayOf(objectOf(value.content)?.parts)) {
      const delta = this.#readPart(objectOf(part) ?? {}, candidate);
      if (delta !== undefined) events.push({ type: "delta", choice, ...delta });
    }
    const logprobs = readLogprobs(value.logprobsResult);
    if (logprobs !== undefined) events.push({ type: "delta", choice, logprobs });
    candidate.reason = textOf(value.finishReason) ?? candidate.reason;
    candidate.grounding = objectOf(value.groundingMetadata) ?? candidate.grounding;
  }

  #readPart(part: JsonObject, candidate: Candidate): Omit<DeltaEvent, "type" | "choice"> | undefined {
    const signature = textOf(part.thoughtSignature);
    const called = objectOf(part.functionCall);
    if (called !== undefined) return { toolCalls: [this.#readCall(called, signature, candidate)] };
    const text = textOf(part.text);
    const providerFields = ownFields(part, signature);
    if (text === undefined && providerFields === undefined) return undefined;
    if (text !== undefined && part.thought !== true) candidate.text += text;
    return {
      ...(text !== undefined && (part.thought === true ? { reasoning: text } : { text })),
      ...(providerFields !== undefined && { providerFields }),
    };
  }

  #readCall(called: JsonObject, signature: string | undefined, candidate: Candidate): ToolCallDelta {
    const index = candidate.calls;
    candidate.calls += 1;
    return {
      index,
      id: textOf(called.id) ?? `call_${this.#facts.newId()}`,
      name: textOf(called.name) ?? "",
      arguments: JSON.stringify(objectOf(called.args) ?? {}),
      ...(signature !== undefined && { providerFields: { thought_signature: signature } }),
    };
  }
}

/** What OpenAI has no word for: signatures, media the model made, code it ran. */
function ownFields(part: JsonObject, signature: string | undefined): JsonObject | undefined {
  const media = objectOf(part.inlineData);
  const code = objectOf(part.executableCode) ?? objectOf(part.codeExecutionResult);
  if (signature === undefined && media === undefined && code === undefined) return undefined;
  return {
    ...(signature !== undefined && { thought_signatures: [signature] }),
    ...(media !== undefined && mediaFields(media)),
    ...(code !== undefined && { code_execution: [code] }),
  };
}

function mediaFields(media: JsonObject): JsonObject {
  const mimeType = textOf(media.mimeType) ?? "application/octet-stream";
  const url = `data:${mimeType};base64,${textOf(media.data) ?? ""}`;
  return mimeType.startsWith("image/") ? { images: [{ type: "image_url", image_url: { url } }] } : { media: [{ url }] };
}

function readLogprobs(value: Json | undefined): JsonObject | undefined {
  const result = objectOf(value);
  if (result === undefined) return undefined;
  const tops = arrayOf(result.topCandidates);
  const content = arrayOf(result.chosenCandidates).map((chosen, index) => ({
    ...tokenOf(chosen),
    top_logprobs: arrayOf(objectOf(tops[index])?.candidates).map(tokenOf),
  }));
  return { content };
}

function tokenOf(value: Json): JsonObject {
  const candidate = objectOf(value);
  const token = textOf(candidate?.token) ?? "";
  return { token, logprob: candidate?.logProbability ?? 0, bytes: [...Buffer.from(token)] };
}
