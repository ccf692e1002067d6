/** Spoken answers: bytes of audio that pass as they come. */

import type { CompletionEvent, OutputEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";

/** Reads a spoken answer. An AnswerReader. Its last byte leaves when it is booked. */
export class SpeechReader {
  readonly #mediaType: string;
  #outputTokens: number;
  #lastByte: Buffer | undefined;
  #failure: GatewayError | undefined;

  /** @param outputTokens roughly how many the whole of it has: nobody tells. */
  constructor({ mediaType, outputTokens }: { readonly mediaType: string; readonly outputTokens: number }) {
    this.#mediaType = mediaType;
    this.#outputTokens = outputTokens;
  }

  /** Audio has no last word; the body's end is one. */
  get over(): boolean {
    return false;
  }

  get failure(): GatewayError | undefined {
    return this.#failure;
  }

  push(chunk: Buffer): readonly OutputEvent[] {
    if (chunk.length === 0) return [];
    const rest = chunk.subarray(0, -1);
    const bytes = this.#lastByte === undefined ? rest : Buffer.concat([this.#lastByte, rest]);
    this.#lastByte = chunk.subarray(-1);
    if (bytes.length === 0) return [];
    const outputTokens = this.#outputTokens;
    this.#outputTokens = 0;
    return [{ type: "raw", bytes, outputTokens, mediaType: this.#mediaType }];
  }

  end(): readonly CompletionEvent[] {
    if (this.#lastByte === undefined) {
      this.#failure = new GatewayError("provider_error", "The provider answered without any audio.");
      return [];
    }
    const end = { usage: undefined, responseId: undefined, raw: this.#lastByte, mediaType: this.#mediaType };
    return [{ type: "end", ...end, outputTokens: this.#outputTokens }];
  }
}
