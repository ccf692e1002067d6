import assert from "node:assert/strict";
import { test } from "node:test";
import type { ToolCallDelta } from "../../src/completion.ts";
import { MessageStreamEncoder } from "../../src/wires/anthropic-encoder.ts";

const usage = {
  ...{ inputTokens: 1, outputTokens: 1, cacheReadInputTokens: 0, cacheWriteInputTokens: 0 },
  ...{ reasoningOutputTokens: 0, estimated: false },
};

/** What a stream says of its blocks: "+0 f" begins one, "0 text" is a piece, "-0" ends it; a bar stands after each delta. */
function blocks(...deltas: readonly ToolCallDelta[]): string[] {
  const encoder = new MessageStreamEncoder();
  const said: string[] = [];
  const read = (bytes: Buffer | undefined) => {
    for (const [, data = ""] of (bytes?.toString() ?? "").matchAll(/^data: (.*)$/gm)) {
      const { type, index, content_block, delta } = JSON.parse(data);
      if (type === "content_block_start") said.push(`+${index} ${content_block.id} ${content_block.name}`);
      if (type === "content_block_delta") said.push(`${index} ${delta.partial_json}`);
      if (type === "content_block_stop") said.push(`-${index}`);
    }
    said.push("|");
  };
  for (const call of deltas) read(encoder.encode({ type: "delta", choice: 0, toolCalls: [call] }));
  encoder.encode({ type: "finish", choice: 0, reason: "tool_calls" });
  read(encoder.end(usage));
  return said;
}

test("calls written one after the other are passed on as they come", () => {
  assert.deepEqual(
    blocks(
      { index: 0, id: "a", name: "f", arguments: "" },
      { index: 0, arguments: '{"x":{}' },
      { index: 0, arguments: "}" },
      { index: 1, id: "b", name: "g", arguments: "{" },
      { index: 1, arguments: "}" },
    ),
    ["+0 a f", "|", '0 {"x":{}', "|", "0 }", "|", "-0", "+1 b g", "1 {", "|", "1 }", "|", "-1", "|"],
  );
});

test("of calls written by turns, one waits for the other: no block goes on after its end", () => {
  assert.deepEqual(
    blocks(
      { index: 0, id: "a", name: "f", arguments: "" },
      { index: 1, id: "b", name: "g", arguments: "" },
      { index: 2, id: "c", name: "h", arguments: "{}" },
      { index: 0, arguments: '{"x":{}' },
      { index: 1, arguments: '{"y":' },
      { index: 0, arguments: "}" },
      { index: 1, arguments: "1}" },
    ),
    [
      ...["+0 a f", "|", "|", "|", '0 {"x":{}', "|", "|"],
      ...["0 }", "-0", "+1 b g", '1 {"y":', "|"],
      ...["1 1}", "-1", "+2 c h", "2 {}", "|", "-2", "|"],
    ],
  );
});

test("a call without arguments is followed at the end, when it is known that it has none", () => {
  assert.deepEqual(blocks({ index: 0, id: "a", name: "f" }, { index: 1, id: "b", name: "g", arguments: "{}" }), [
    "+0 a f",
    "|",
    "|",
    "-0",
    "+1 b g",
    "1 {}",
    "-1",
    "|",
  ]);
});
