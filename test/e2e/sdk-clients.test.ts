import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { nodeClient, PackagesMissing, pythonClient, skipWithout } from "../foreign-clients.ts";
import { Stack } from "./stack.ts";
import { anthropicWire, bedrockWire, geminiWire, openaiWire, type ScriptedWire } from "./wires.ts";

/** The first run installs packages. */
const timeout = 600_000;
const text = 'Hello wörld.\n\ndata: [DONE]\n\n "x" 🚀';
const calls = [
  ["weather", { city: "Zürich 🚀", days: 3 }],
  ["weather", {}],
];

/** What a client was told in one conversation. */
interface Told {
  readonly text: string;
  readonly calls: unknown;
  readonly tokens: readonly number[];
}
type Conversations = Readonly<Record<"whole" | "streamed" | "tools" | "streamedTools", Told>>;

describe("other people's clients, unchanged, with every provider's wire behind", () => {
  let stack: Stack;
  let wires: readonly ScriptedWire[] = [];
  before(async () => {
    wires = await Promise.all([openaiWire(), anthropicWire(), geminiWire(), bedrockWire()]);
    stack = await Stack.start({ sidecars: 1, models: wires.map(({ models }) => models).join("") });
  });
  after(async () => {
    await stack.close();
    await Promise.all(wires.map((wire) => wire.close()));
  });

  /** Has a client's program talk with every model, and looks at what it was told and at the books. */
  async function converse(
    t: TestContext,
    client: typeof nodeClient,
    program: string,
    ...args: string[]
  ): Promise<void> {
    const run = await client().catch((error: unknown) => {
      if (error instanceof PackagesMissing)
        return t.skip(`NOT tested: ${error.message.replaceAll(/\s+/g, " ").slice(0, 200)}`);
      throw error;
    });
    if (run === undefined) return;
    const key = await stack.generateKey({ max_budget: 1 });
    const env = { SIDECAR_URL: stack.sidecars[0]?.url ?? "", API_KEY: key };
    const said = (await run(program, [...args, ...wires.map(({ id }) => id)], env)) as Record<string, Conversations>;
    for (const { id, used } of wires) {
      const { whole, streamed, tools, streamedTools } = said[id] ?? assert.fail(`nothing of ${id}`);
      for (const told of [whole, streamed]) assert.deepEqual([told.text, told.calls], [text, []], id);
      for (const told of [tools, streamedTools]) {
        assert.deepEqual(told.calls, calls, id);
        assert.equal(told.text.split("[tool_result]").length - 1, 2, id);
      }
      // Nothing is marked to be cached, so Claude reads all of its 11 tokens anew.
      const tokens = id === "claude" ? [11, 7] : [used.input, used.output];
      for (const told of [whole, streamed, tools, streamedTools]) assert.deepEqual(told.tokens, tokens, id);
    }
    const rows = await stack.booked(key, 6 * wires.length);
    assert.deepEqual(new Set(rows.map(({ status }) => status)), new Set(["success"]));
    assert.equal(rows.length, 6 * wires.length, "two plain calls and twice two with tools");
  }

  test("OpenAI's for Python", { skip: skipWithout("python3"), timeout }, (t) =>
    converse(t, pythonClient, "openai_client.py"),
  );
  test("OpenAI's for Python, by responses", { skip: skipWithout("python3"), timeout }, (t) =>
    converse(t, pythonClient, "responses_client.py"),
  );
  test("Vercel's AI SDK, by responses, its own choice", { timeout }, (t) =>
    converse(t, nodeClient, "ai-sdk.mjs", "responses"),
  );
  test("LangChain's for OpenAI, by responses", { timeout }, (t) =>
    converse(t, nodeClient, "langchain.mjs", "responses"),
  );
  test("Vercel's AI SDK, by OpenAI's door", { timeout }, (t) => converse(t, nodeClient, "ai-sdk.mjs", "openai"));
  test("Vercel's AI SDK, by Anthropic's door", { timeout }, (t) => converse(t, nodeClient, "ai-sdk.mjs", "anthropic"));
  test("LangChain's for OpenAI", { timeout }, (t) => converse(t, nodeClient, "langchain.mjs", "chat"));
});
