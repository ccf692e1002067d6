import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Deployment } from "../../src/config/config.ts";
import { contextWindowCheck, findOverflows } from "../../src/routing/context-window.ts";
import { boundsOfInput } from "../../src/routing/input-text.ts";
import type { Encoding } from "../../src/routing/token-counter-worker.ts";
import { neutralRequest, sampleDeployment, sampleRequest } from "../sample-call.ts";
import { sampleAsk, sampleDeployments } from "./sample-candidates.ts";

/** What was said, in one message. */
const said = (content: unknown) => ({ messages: [{ role: "user", content }] });

/** Counts nothing that it was not told, and remembers what it was asked. */
function counterOf(tokens: number | undefined) {
  const asked: [Encoding, number][] = [];
  const count = async (encoding: Encoding, texts: readonly string[]) => {
    asked.push([encoding, texts.join("").length]);
    return tokens;
  };
  return { asked, count };
}

describe("an input", () => {
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${"A".repeat(9_000)}` } };
  const tool = { type: "function", function: { name: "search", parameters: {} } };
  const words = "word ".repeat(100);
  /** The body, the model, how many tokens it takes, how many a tokenizer counts, which one, and the tokens if it is too long. */
  const rows: readonly [string, object, Partial<Deployment>, number | undefined, (Encoding | undefined)?, number?][] = [
    ["fits if it has no more bytes than fit", said("a".repeat(80)), { contextTokens: 80, model: "gpt-5" }, 999],
    ["fits where nobody knows what fits", said("a".repeat(9_999)), {}, 999],
    [
      "does not fit if it has more words than fit",
      said(words),
      { contextTokens: 99, model: "gpt-5" },
      1,
      undefined,
      100,
    ],
    ["is counted in between, and fits", said(words), { contextTokens: 100, model: "gpt-5" }, 100, "o200k_base"],
    [
      "is counted in between, and does not",
      said(words),
      { contextTokens: 100, model: "gpt-5" },
      101,
      "o200k_base",
      101,
    ],
    [
      "is counted as older models do",
      said(words),
      { contextTokens: 120, model: "gpt-4-turbo" },
      121,
      "cl100k_base",
      121,
    ],
    ["is counted by what a name means", said(words), { contextTokens: 120, model: "openai/o3-mini" }, 1, "o200k_base"],
    ["goes by four bytes a token elsewhere, and fits", said(words), { contextTokens: 125, model: "claude" }, 999],
    ["goes by four bytes a token elsewhere", said(words), { contextTokens: 124, model: "llama" }, 1, undefined, 125],
    [
      "goes by four bytes a token if counting takes long",
      said(words),
      { contextTokens: 124, model: "gpt-4o" },
      undefined,
      "o200k_base",
      125,
    ],
    [
      "has no tokens for images",
      said([{ type: "text", text: "?" }, image]),
      { contextTokens: 50, model: "gpt-5" },
      999,
    ],
  ];
  for (const [name, body, fact, counted, encoding, tokens] of rows) {
    test(name, async () => {
      for (const request of [sampleRequest(body), neutralRequest(body)]) {
        const deployment = sampleDeployment(fact);
        const counter = counterOf(counted);
        const overflows = await findOverflows(request, [deployment], counter);
        assert.equal(overflows.get(deployment), tokens);
        assert.deepEqual(
          counter.asked.map(([asked]) => asked),
          encoding === undefined ? [] : [encoding],
        );
        const exclusion = contextWindowCheck(deployment, { ...sampleAsk(body), overflows });
        assert.equal(exclusion?.reason, tokens === undefined ? undefined : "context_window");
        assert.equal(contextWindowCheck(deployment, sampleAsk(body)), undefined, "nobody has asked");
      }
    });
  }

  test("is measured for each deployment of a model by itself, without a counter too", async () => {
    const [small, large, unknown] = sampleDeployments([{ contextTokens: 50 }, { contextTokens: 5_000 }, {}]);
    assert.ok(small && large && unknown);
    const overflows = await findOverflows(sampleRequest(said(words)), [small, large, unknown], undefined);
    assert.deepEqual([...overflows], [[small, 100]]);
  });

  test("has all text that a model reads, and nothing else", () => {
    const body = {
      messages: [
        { role: "system", content: "ä b" },
        { role: "user", content: [{ type: "text", text: "c  d\n" }, image, { type: "input_audio", input_audio: {} }] },
        { role: "assistant", content: null, tool_calls: [{ function: { name: "e", arguments: '{"f": 1}' } }] },
        { role: "assistant", content: [{ type: "refusal", refusal: "g" }] },
        "h",
      ],
      tools: [tool],
      response_format: null,
    };
    const tools = JSON.stringify([tool]);
    for (const request of [sampleRequest(body), neutralRequest(body)]) {
      const { texts, bytes, words: count } = boundsOfInput(request);
      assert.deepEqual(texts, ["ä b", "c  d\n", "e", '{"f": 1}', "g", tools]);
      assert.equal(bytes, 4 + 5 + 1 + 8 + 1 + tools.length);
      assert.equal(count, 2 + 2 + 1 + 2 + 1 + 1);
    }
  });

  test("of 30 MB is measured in a moment", async () => {
    const request = sampleRequest(said("a".repeat(30_000_000)));
    const counter = counterOf(undefined);
    const startedCpu = process.cpuUsage();
    const overflows = await findOverflows(
      request,
      [sampleDeployment({ contextTokens: 100, model: "claude" })],
      counter,
    );
    const { user, system } = process.cpuUsage(startedCpu);
    const tookMs = (user + system) / 1_000;
    assert.equal([...overflows.values()][0], 7_500_000);
    assert.ok(tookMs < 250, `${tookMs} ms of the processor`);
  });
});
