/** Goldens of the former completions: unary answers, and streams split at every byte. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { GatewayError } from "../../src/errors.ts";
import { ChatStreamReader } from "../../src/wires/openai-chat-stream.ts";
import { readOperationAnswer } from "../../src/wires/openai-operation-answer.ts";
import { allCuts, readPieces } from "./reading.ts";

const head = { id: "cmpl-1", object: "text_completion", created: 1_700_000_000, model: "gpt-3.5-turbo-instruct" };
const logprobs = { tokens: [" a"], token_logprobs: [-0.1], top_logprobs: [{ " a": -0.1 }], text_offset: [4] };
const usage = { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 };
const choice = (text: string, finish_reason: string | null = null, index = 0, others: object = {}) => ({
  ...{ text, index, logprobs: null, finish_reason },
  ...others,
});
const frame = (fields: object) => `data: ${JSON.stringify({ ...head, ...fields })}\n\n`;
const done = "data: [DONE]\n\n";

interface Golden {
  readonly what: string;
  /** What the caller gets. */
  readonly passed: string;
  /** What the provider sends. */
  readonly sent: string;
  readonly choiceCount: number;
  readonly includeUsage?: boolean;
  readonly usage: readonly [input: number, output: number] | undefined;
  /** Roughly, for who reports nothing. */
  readonly outputTokens: number;
}

const text =
  frame({ choices: [choice("Grüß ")], x_unknown: 1 }) +
  frame({ choices: [choice("Gott — 🚀", null, 0, { logprobs })] }) +
  frame({ choices: [choice("", "stop")] });
const usageFrame = frame({ choices: [], usage });
const two =
  frame({ choices: [choice("a")] }) +
  frame({ choices: [choice("b", null, 1)] }) +
  frame({ choices: [choice("", "length", 1)] }) +
  frame({ choices: [choice("", "stop")] });
const returns = text.replaceAll("\n", "\r\n");
const withUsage = frame({ choices: [choice("a", "stop")], usage });

const goldens: readonly Golden[] = [
  { what: "a text", passed: text, sent: text + usageFrame + done, choiceCount: 1, usage: [5, 7], outputTokens: 6 },
  {
    what: "a text whose caller wants the usage",
    passed: text + usageFrame,
    sent: text + usageFrame + done,
    ...{ choiceCount: 1, includeUsage: true, usage: [5, 7] as const, outputTokens: 6 },
  },
  { what: "two choices, no usage", passed: two, sent: two + done, choiceCount: 2, usage: undefined, outputTokens: 2 },
  { what: "no [DONE]", passed: text, sent: text, choiceCount: 1, usage: undefined, outputTokens: 6 },
  {
    what: "lines that end in CR LF",
    // The LF of the last CR LF leads what is held back; a CR alone ends a line too.
    passed: returns.slice(0, -1),
    sent: returns + done,
    choiceCount: 1,
    usage: undefined,
    outputTokens: 6,
  },
  {
    what: "usage with the last text",
    passed: withUsage,
    sent: withUsage + done,
    choiceCount: 1,
    usage: [5, 7],
    outputTokens: 1,
  },
  {
    what: "comments between",
    passed: two,
    sent: `: hi\n\n${two}: ho\n\n${done}`,
    choiceCount: 2,
    usage: undefined,
    outputTokens: 2,
  },
];

for (const { what, passed, sent, choiceCount, includeUsage = false, usage: used, outputTokens } of goldens) {
  test(`${what}: nothing depends on where the network cuts`, () => {
    for (const pieces of allCuts(Buffer.from(sent))) {
      const reader = new ChatStreamReader({ lane: "raw", includeUsage, choiceCount });
      const { events, failure } = readPieces(reader, pieces);
      assert.equal(failure, undefined);
      const raws = events.filter((event) => event.type === "raw");
      assert.equal(Buffer.concat(raws.map(({ bytes }) => bytes)).toString(), passed);
      assert.equal(
        raws.reduce((sum, event) => sum + event.outputTokens, 0),
        outputTokens,
      );
      const end = events.at(-1);
      assert.ok(end?.type === "end");
      assert.equal(end.raw?.toString(), done);
      assert.deepEqual(end.usage && [end.usage.inputTokens, end.usage.outputTokens], used);
    }
  });
}

test("a last frame without its blank line is completed, and does not run into what ends the stream", () => {
  const reader = new ChatStreamReader({ lane: "raw", includeUsage: false, choiceCount: 1 });
  const { events } = readPieces(reader, [Buffer.from(text.trimEnd())]);
  const bytes = events.map((event) =>
    event.type === "raw" ? event.bytes : event.type === "end" ? event.raw : undefined,
  );
  assert.equal(Buffer.concat(bytes.filter((each) => each !== undefined)).toString(), text + done);
});

test("a stream that is cut anywhere before its end is no whole one", () => {
  const body = Buffer.from(two);
  const lastReason = body.lastIndexOf('"stop"');
  for (let at = 0; at < lastReason; at++) {
    const reader = new ChatStreamReader({ lane: "raw", includeUsage: false, choiceCount: 2 });
    assert.ok(readPieces(reader, [body.subarray(0, at)]).failure, String(at));
  }
});

test("whole answers pass with their usage, logprobs and unknown fields", () => {
  const body = { ...head, choices: [choice("Grüß Gott", "stop", 0, { logprobs })], usage, x_unknown: 1 };
  const read = readOperationAnswer("text_completion", Buffer.from(JSON.stringify(body)));
  if (read instanceof GatewayError) throw read;
  assert.deepEqual([read.responseId, read.usage?.inputTokens, read.usage?.outputTokens], ["cmpl-1", 5, 7]);
  assert.equal(read.outputTokens, 3);
});
