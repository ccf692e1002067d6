import type { CompletionEvent, DeltaEvent, EndEvent } from "../../src/completion.ts";
import type { GatewayError } from "../../src/errors.ts";
import type { AnswerReader } from "../../src/providers/http-provider.ts";

/** What a reader makes of a body. */
export interface Reading {
  readonly events: readonly CompletionEvent[];
  readonly failure: GatewayError | undefined;
}

/** Has a reader read a body that came in these pieces. */
export function readPieces(reader: AnswerReader, pieces: readonly Buffer[]): Reading {
  const events: CompletionEvent[] = [];
  for (const piece of pieces) {
    events.push(...reader.push(piece));
    if (reader.over) break;
  }
  events.push(...reader.end());
  return { events, failure: reader.failure };
}

/** A body cut in two at every place, and into single bytes. */
export function allCuts(body: Buffer): Buffer[][] {
  const inTwo = Array.from({ length: body.length + 1 }, (_, at) => [body.subarray(0, at), body.subarray(at)]);
  return [...inTwo, [...body].map((byte) => Buffer.from([byte]))];
}

/** A body cut at these places, given as parts of its length. */
export function cutAt(body: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((place) => Math.floor(place * body.length)), body.length].sort((a, b) => a - b);
  return ends.map((end, index) => body.subarray(ends[index - 1] ?? 0, end));
}

/** The deltas of a choice joined: what a caller sees in the end. */
export function joined(events: readonly CompletionEvent[], choice = 0) {
  const deltas = events.filter((event): event is DeltaEvent => event.type === "delta" && event.choice === choice);
  const calls: { id?: string; name?: string; arguments: string }[] = [];
  for (const piece of deltas.flatMap((delta) => delta.toolCalls ?? [])) {
    const call = calls[piece.index] ?? { arguments: "" };
    calls[piece.index] = {
      ...call,
      ...(piece.id !== undefined && { id: piece.id }),
      ...(piece.name !== undefined && { name: piece.name }),
      arguments: call.arguments + (piece.arguments ?? ""),
    };
  }
  const text = deltas.map((delta) => delta.text ?? "").join("");
  const reasoning = deltas.map((delta) => delta.reasoning ?? "").join("");
  const finish = events.find((event) => event.type === "finish" && event.choice === choice);
  const end = events.find((event): event is EndEvent => event.type === "end");
  return { text, reasoning, calls, reason: finish?.type === "finish" ? finish.reason : undefined, end };
}
