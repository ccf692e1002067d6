import type { CompletionEvent, CompletionRequest, EndEvent, RawEvent, Wire } from "../completion.ts";
import { parseJson } from "../wires/json.ts";
import { neutralStream, neutralWhole } from "../wires/openai-chat-neutral.ts";
import type { KeptAnswer } from "./kept-answer.ts";

/** An answer given again: its events, and what `settled` carries. */
export interface Replay {
  readonly events: readonly AnswerEvent[];
  readonly raw: Buffer | undefined;
}

/** How an answer in a wire's bytes becomes neutral events; undefined where they cannot say all of it. */
interface AnswerReader {
  readonly whole: (body: Buffer) => readonly CompletionEvent[] | undefined;
  readonly stream: (frames: Buffer, choiceCount: number) => readonly CompletionEvent[] | undefined;
}

/** Of a wire that is not here, whole answers and streams do not stand for each other. */
const readers: Readonly<Partial<Record<Wire, AnswerReader>>> = {
  "openai-chat": { whole: neutralWhole, stream: neutralStream },
};

type AnswerEvent = Exclude<CompletionEvent, EndEvent>;

/**
 * A kept answer as this request wants it: a stream as the stream it was, frame by frame; a whole answer byte for byte; and one as
 * the other by way of the neutral form.
 *
 * @returns undefined if that would lose a part of a message.
 */
export function replayOf(kept: KeptAnswer, request: CompletionRequest): Replay | undefined {
  const { form, body, includesUsage } = kept;
  if (form === "events") return neutral(parseJson(body.toString()));
  // Answers in bytes are kept apart by their wire, so it is this request's.
  const reader = request.wire && readers[request.wire];
  if (form === "whole") return request.stream ? neutral(reader?.whole(body)) : { events: [], raw: body };
  if (request.stream && request.includeUsage === includesUsage) return frames(kept);
  return neutral(reader?.stream(body, request.choiceCount));
}

function frames({ body, ends }: KeptAnswer): Replay {
  const pieces = ends.map((end, index) => body.subarray(ends[index - 1] ?? 0, end));
  const raw = pieces.pop();
  return { events: pieces.map((bytes): RawEvent => ({ type: "raw", bytes, outputTokens: 0 })), raw };
}

function neutral(events: unknown): Replay | undefined {
  if (!Array.isArray(events)) return undefined;
  return { events: (events as CompletionEvent[]).filter((event) => event.type !== "end"), raw: undefined };
}
