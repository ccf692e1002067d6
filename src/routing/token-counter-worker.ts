/** The thread of a TokenCounter. */

import { parentPort } from "node:worker_threads";

/** How texts become tokens at OpenAI. */
export type Encoding = "o200k_base" | "cl100k_base";

/** What the worker is asked. */
export interface CountJob {
  readonly id: number;
  readonly encoding: Encoding;
  readonly texts: readonly string[];
}

/** What it answers. */
export interface CountAnswer {
  readonly id: number;
  readonly tokens: number;
}

const encodings = {
  o200k_base: () => import("gpt-tokenizer/encoding/o200k_base"),
  cl100k_base: () => import("gpt-tokenizer/encoding/cl100k_base"),
};

/** The time a tokenizer takes rises with the square of such a run's length. */
const longRun = /\S{1000}|\s{1000}/;
const pieceChars = 128;

/** What looks like a special token in what people say is text. */
const noneSpecial = { disallowedSpecial: new Set<string>() };

async function count(encoding: Encoding, texts: readonly string[]): Promise<number> {
  const { countTokens } = await encodings[encoding]();
  let tokens = 0;
  for (const text of texts) {
    for (const piece of longRun.test(text) ? piecesOf(text) : [text]) tokens += countTokens(piece, noneSpecial);
  }
  return tokens;
}

/** Each cut costs a token at most. */
function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; at += pieceChars) pieces.push(text.slice(at, at + pieceChars));
  return pieces;
}

parentPort?.on("message", async ({ id, encoding, texts }: CountJob) => {
  parentPort?.postMessage({ id, tokens: await count(encoding, texts) } satisfies CountAnswer);
});
