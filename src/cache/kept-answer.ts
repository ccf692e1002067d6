/** Answers as they are kept: how one is recorded while it passes, and how it becomes bytes and comes back. */

import type { CallEvent, CompletionRequest, SettledEvent, Usage } from "../completion.ts";
import { isObject, parseJson } from "../wires/json.ts";

/** An answer that can be given again. */
export interface KeptAnswer extends Head {
  /** The body, the frames, or the events as JSON. */
  readonly body: Buffer;
}

interface Head {
  /** A body or frames in the caller's wire, or neutral events. */
  readonly form: "whole" | "stream" | "events";
  /** Whether the frames have one with the usage. */
  readonly includesUsage: boolean;
  /** Where the pieces it came in end, in bytes; the last is the body's end. */
  readonly ends: readonly number[];
  /** Unix time, milliseconds. */
  readonly keptAtMs: number;
  /** Who gave it. */
  readonly deploymentId: string;
  readonly usage: Usage;
}

const newline = 0x0a;

const counts = [
  ...["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"],
  "reasoningOutputTokens",
] as const;

/** The largest answer that is kept, in bytes. */
export const answerBytesMax = 1_048_576;

/** Records one answer as it passes. */
export class AnswerRecorder {
  readonly #request: Pick<CompletionRequest, "stream" | "includeUsage">;
  readonly #pieces: Buffer[] = [];
  readonly #events: string[] = [];
  #bytes = 0;

  constructor(request: Pick<CompletionRequest, "stream" | "includeUsage">) {
    this.#request = request;
  }

  /** Whether it is too large to be kept. Nothing more is recorded then. */
  get isTooLarge(): boolean {
    return this.#bytes > answerBytesMax;
  }

  add(event: CallEvent): void {
    if (event.type === "accepted" || event.type === "settled" || this.isTooLarge) return;
    if (event.type === "raw") {
      this.#pieces.push(event.bytes);
      this.#bytes += event.bytes.length;
    } else {
      const text = JSON.stringify(event);
      this.#events.push(text);
      this.#bytes += text.length;
    }
    if (!this.isTooLarge) return;
    this.#pieces.length = 0;
    this.#events.length = 0;
  }

  /** The answer is whole. @returns what to keep; undefined if it is too large. */
  end(settled: SettledEvent, facts: { readonly keptAtMs: number; readonly deploymentId: string }): Buffer | undefined {
    const { stream, includeUsage: includesUsage } = this.#request;
    if (settled.raw !== undefined) {
      this.#pieces.push(settled.raw);
      this.#bytes += settled.raw.length;
    }
    if (this.isTooLarge) return undefined;
    const form = this.#events.length > 0 ? "events" : stream ? "stream" : "whole";
    const body = form === "events" ? [Buffer.from(`[${this.#events.join(",")}]`)] : this.#pieces;
    const ends: number[] = [];
    for (const piece of body) ends.push((ends.at(-1) ?? 0) + piece.length);
    const head: Head = { form, includesUsage, ends, ...facts, usage: settled.usage };
    return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), ...body]);
  }
}

/** @returns undefined for bytes that are none of ours. */
export function readAnswer(entry: Buffer): KeptAnswer | undefined {
  const end = entry.indexOf(newline);
  if (end === -1) return undefined;
  const head: unknown = parseJson(entry.toString("utf8", 0, end));
  const body = entry.subarray(end + 1);
  return isHead(head) && head.ends.at(-1) === body.length ? { ...head, body } : undefined;
}

/** As far as a wrong one would do harm: others may write to the same Redis. */
function isHead(value: unknown): value is Head {
  if (!isObject(value)) return false;
  const { form, ends, keptAtMs, deploymentId, usage } = value;
  return (
    (form === "whole" || form === "stream" || form === "events") &&
    Array.isArray(ends) &&
    ends.every(Number.isSafeInteger) &&
    typeof keptAtMs === "number" &&
    typeof deploymentId === "string" &&
    isObject(usage) &&
    counts.every((name) => Number.isSafeInteger(usage[name]))
  );
}
