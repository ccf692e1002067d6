import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import OpenAI from "openai";
import { createCompletionClient, Role } from "../../src/client.ts";
import { signature } from "../anthropic-upstream.ts";
import {
  answered,
  anthropicClient,
  type DoorClient,
  gathered,
  grpcClient,
  openaiClient,
  responsesClient,
} from "./door-clients.ts";
import { Stack } from "./stack.ts";
import { anthropicWire, bedrockWire, geminiWire, openaiWire, pixel, type ScriptedWire } from "./wires.ts";

const doors = [openaiClient, responsesClient, anthropicClient, grpcClient];
const wires = [openaiWire, anthropicWire, geminiWire, bedrockWire];
const features = {
  unary: "answers",
  stream: "streams",
  tools: "tools and their results",
  parallel: "parallel tools, streamed",
  image: "images",
  schema: "JSON schemas",
  errors: "errors, with when to come again",
  usage: "usage and bill, caches and reasoning included",
} as const;
type Feature = keyof typeof features;

const text = 'Hello wörld.\n\ndata: [DONE]\n\n "x" 🚀';
const inputs = [{ city: "Zürich 🚀", days: 3 }, {}];

/** What a pair of door and wire is tried with, by the feature it shows. The calls are paid for by the client's key. */
type Trial = (door: DoorClient, wire: ScriptedWire) => Promise<void>;

const trials: Readonly<Record<Exclude<Feature, "usage">, Trial>> = {
  unary: async (door, wire) => {
    const said = await door.ask({ model: wire.id });
    assert.deepEqual([said.text, said.end, said.calls], [text, "stop", []]);
    assertUsed(said.used, wire);
  },
  stream: async (door, wire) => {
    const said = await door.ask({ model: wire.id, stream: true });
    assert.deepEqual([said.text, said.end, said.calls], [text, "stop", []]);
    assertUsed(said.used, wire);
  },
  tools: async (door, wire) => {
    const asked = { model: wire.id, hasTools: true };
    await bringResults(door, asked, await called(door, asked));
  },
  parallel: async (door, wire) => {
    const asked = { model: wire.id, hasTools: true, stream: true };
    await bringResults(door, asked, await called(door, asked));
  },
  image: async (door, wire) => {
    const said = await door.ask({ model: wire.id, hasImage: true });
    assert.match(said.text, /\[image(:base64)?\]/);
    assert.ok(wire.lastBody().includes(pixel), "the image arrived whole");
  },
  schema: async (door, wire) => {
    for (const stream of [false, true]) {
      const said = await door.ask({ model: wire.id, wantsJson: true, stream });
      assert.deepEqual([JSON.parse(said.text), said.end, said.calls], [{ city: "Zürich", days: 3 }, "stop", []]);
      assert.match(wire.lastBody(), /"days":\{"type":"integer"\}/);
    }
  },
  errors: async (door, wire) => {
    const isRpc = door.name === "gRPC";
    for (const stream of [false, true]) {
      const limited = await door.refused({ model: `${wire.id}-limited`, stream });
      assert.equal(limited.status, isRpc ? Code.ResourceExhausted : 429);
      assert.equal(limited.code?.toLowerCase(), "provider_rate_limited");
      const { retryAfterMs = 0 } = limited;
      // 7 s, as the provider asked, and up to a tenth more, so that not all come again at once.
      assert.ok(retryAfterMs >= 7_000 && retryAfterMs <= 7_700, String(retryAfterMs));
      const long = await door.refused({ model: `${wire.id}-long`, stream });
      assert.equal(long.status, isRpc ? Code.InvalidArgument : 400);
      assert.equal(long.code?.toLowerCase(), "context_length_exceeded");
    }
  },
};
/** What providers mark what they have said with, and want back. */
const marks = {
  claude: [`"signature":"${signature}"`, '"type":"redacted_thinking","data":"b3BhcXVl"'],
  gemini: ['"thoughtSignature":"c2ln"'],
};
/** Successful calls of all trials: one, one, twice two, one, two. */
const paidCalls = 9;

async function called(door: DoorClient, asked: Parameters<DoorClient["ask"]>[0]) {
  const said = await door.ask(asked);
  assert.equal(said.end, "tools");
  assert.deepEqual(
    said.calls.map(({ name, input }) => [name, input]),
    inputs.map((input) => ["weather", input]),
  );
  assert.equal(new Set(said.calls.map(({ id }) => id)).size, 2, "each call has an id of its own");
  return said;
}

async function bringResults(
  door: DoorClient,
  asked: Parameters<DoorClient["ask"]>[0],
  said: Awaited<ReturnType<DoorClient["ask"]>>,
) {
  const last = await door.ask({ ...asked, after: said });
  assert.equal(last.end, "stop");
  assert.equal(last.text.split("[tool_result]").length - 1, 2, "both results arrived");
}

function assertUsed(used: Awaited<ReturnType<DoorClient["ask"]>>["used"], wire: ScriptedWire): void {
  const { reasoning = wire.used.reasoning } = used;
  assert.deepEqual({ ...used, reasoning }, wire.used);
}

describe("every door to every provider's wire, by unchanged clients", () => {
  let stack: Stack;
  let scripted: readonly ScriptedWire[] = [];
  /** Names of providers, by door and feature. */
  const passed = new Map<string, string[]>();
  before(async () => {
    const named = (id: string, wire: ScriptedWire) => ({
      ...{ ...wire, id, models: wire.models.replaceAll("model_name: gpt", `model_name: ${id}`) },
    });
    const chat = named("chat", await openaiWire("\n      use_chat_completions_api: true"));
    const responses = named("responses", await openaiWire());
    const marked = { ...responses, models: responses.models.replaceAll("model: openai/", "model: openai/responses/") };
    scripted = [...(await Promise.all(wires.map((start) => start()))), chat, marked];
    const models = scripted.map((wire) => wire.models).join("");
    // What fails here fails each time: nobody is to be left alone for it.
    stack = await Stack.start({ sidecars: 1, models, config: "  disable_cooldowns: true" });
  });
  after(async () => {
    await stack.close();
    await Promise.all(scripted.map((wire) => wire.close()));
  });

  for (const openDoor of doors) {
    for (const [place, startWire] of wires.entries()) {
      const pair = `${openDoor.name.replace("Client", "")} to ${startWire.name.replace("Wire", "")}`;
      test(pair, async (t) => {
        const wire = scripted[place];
        assert.ok(wire !== undefined);
        const url = stack.sidecars[0]?.url ?? "";
        const [key, poor] = [await stack.generateKey({ max_budget: 1 }), await stack.generateKey({ max_budget: 1 })];
        const door = openDoor(url, key);
        const shows = async (feature: Feature, trial: () => Promise<void>) => {
          await t.test(features[feature], async () => {
            await trial();
            const names = passed.get(`${door.name} ${feature}`) ?? [];
            passed.set(`${door.name} ${feature}`, [...names, wire.name]);
          });
        };
        for (const [feature, trial] of Object.entries(trials)) {
          // What is refused is asked by another key: the books of the first have answers only.
          const client = feature === "errors" ? openDoor(url, poor) : door;
          await shows(feature as Feature, () => trial(client, wire));
        }
        await shows("usage", async () => {
          const rows = await stack.booked(key, paidCalls);
          assert.deepEqual(
            rows.map(({ cost_nanos }) => BigInt(cost_nanos)),
            Array.from({ length: paidCalls }, () => wire.cost),
          );
          const { input, cacheRead, cacheWrite, output, reasoning } = wire.used;
          for (const row of rows) {
            assert.deepEqual(
              [row.input_tokens, row.cache_read_input_tokens, row.cache_write_input_tokens, row.output_tokens].map(
                Number,
              ),
              [input, cacheRead, cacheWrite, output],
            );
            assert.deepEqual([Number(row.reasoning_output_tokens), row.usage_estimated], [reasoning, false]);
          }
          assert.equal((await stack.spent(key)).spent, wire.cost * BigInt(paidCalls));
          assert.equal((await stack.spent(poor)).spent, 0n, "a refusal costs nothing");
        });
      });
    }
  }

  for (const [id, openDoors] of [
    ["chat", [responsesClient]],
    ["responses", doors],
  ] as const) {
    test(`a server that speaks OpenAI's ${id} alone gives the same`, async (t) => {
      const wire = scripted.find((each) => each.id === id) ?? assert.fail();
      for (const openDoor of openDoors) {
        const key = await stack.generateKey({ max_budget: 1 });
        const door = openDoor(stack.sidecars[0]?.url ?? "", key);
        const { errors, ...answered } = trials;
        for (const [feature, trial] of Object.entries(answered)) {
          await t.test(`${door.name} ${feature}`, () => trial(door, wire));
        }
        const rows = await stack.booked(key, paidCalls);
        assert.deepEqual(
          rows.map(({ cost_nanos }) => BigInt(cost_nanos)),
          Array.from({ length: paidCalls }, () => wire.cost),
        );
        await t.test(`${door.name} errors`, () => errors(door, wire));
      }
    });
  }

  test("what only its provider can read goes by responses to the caller and back", async () => {
    const apiKey = await stack.generateKey({ max_budget: 1 });
    const { responses } = new OpenAI({ baseURL: `${stack.sidecars[0]?.url}/v1`, apiKey, maxRetries: 0 });
    const tools = [{ type: "function" as const, name: "weather", parameters: { type: "object" }, strict: false }];
    const question = { role: "user" as const, content: "Hello?" };
    for (const [model, sent] of Object.entries(marks)) {
      const body = { model, input: [question], tools, reasoning: { effort: "low" as const }, max_output_tokens: 3_000 };
      for (const answer of [await responses.create(body), await responses.stream(body).finalResponse()]) {
        const results = answer.output.flatMap((item) =>
          item.type === "function_call"
            ? [{ type: "function_call_output" as const, call_id: item.call_id, output: "sunny" }]
            : [],
        );
        assert.equal(results.length, 2);
        const output = answer.output as OpenAI.Responses.ResponseInput;
        await responses.create({ ...body, input: [question, ...output, ...results] });
        const arrived = scripted.find(({ id }) => id === model)?.lastBody() ?? "";
        for (const mark of sent) assert.ok(arrived.includes(mark), `${mark} came back`);
      }
    }
  });

  test("what only its provider can read goes by gRPC to the caller and back: Claude's thoughts, and Gemini's marks on calls", async () => {
    const apiKey = await stack.generateKey({ max_budget: 1 });
    const client = createCompletionClient({ baseUrl: stack.sidecars[0]?.url ?? "", apiKey, retries: 0 });
    const tools = [{ name: "weather", parameters: { type: "object" } }];
    const question = { role: Role.USER, text: "Hello?" };
    for (const [model, sent] of Object.entries(marks)) {
      const chat = { model, messages: [question], tools, reasoningEffort: "low", maxOutputTokens: 3_000 };
      for (const answer of [await client.complete({ chat }), await gathered(client.streamComplete({ chat }))]) {
        const [choice] = answer.choices;
        assert.equal(choice?.toolCalls.length, 2);
        const results = choice.toolCalls.map(({ id }) => ({ role: Role.TOOL, toolCallId: id, text: "sunny" }));
        await client.complete({ chat: { ...chat, messages: [question, answered(choice), ...results] } });
        const body = scripted.find(({ id }) => id === model)?.lastBody() ?? "";
        for (const mark of sent) assert.ok(body.includes(mark), `${mark} came back`);
      }
    }
  });

  test("the README's table is what passed", (t) => {
    const names = doors.map((openDoor) => openDoor("http://127.0.0.1:1", "k").name);
    const rows = (Object.keys(features) as Feature[]).map((feature) => {
      const cells = names.map((name) => (passed.get(`${name} ${feature}`) ?? []).join(", "));
      return `| ${[features[feature], ...cells].join(" | ")} |`;
    });
    const head = `| | ${names.map((name) => (name.startsWith("/") ? `\`${name}\`` : name)).join(" | ")} |`;
    const table = [head, `|---|${"---|".repeat(names.length)}`, ...rows].join("\n");
    for (const line of table.split("\n")) t.diagnostic(line);
    assert.ok(readFileSync(new URL("../../README.md", import.meta.url), "utf8").includes(table), table);
  });
});
