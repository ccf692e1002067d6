import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Json, JsonObject } from "../../src/completion.ts";
import { ProviderFailure } from "../../src/errors.ts";
import { encodeMessagesRequest, type MessagesTarget } from "../../src/wires/anthropic-request.ts";
import { claudeTraits } from "../../src/wires/claude-models.ts";
import { faultOf } from "../anthropic-rules.ts";
import { sampleRequest } from "../sample-call.ts";

const lacks = new Set(["seed", "n"]);
const target: MessagesTarget = {
  model: "claude-sonnet-4-5",
  outputTokensMax: undefined,
  outputTokensDefault: 4096,
  provider: "anthropic",
  params: { lacks, drops: false, leavesOut: [], modifies: false },
};
const modifies = { ...target.params, modifies: true };
const drops = { ...target.params, drops: true };
const user = { role: "user", content: "Hello" };
const call = { id: "call_1", type: "function", function: { name: "f", arguments: '{"a":1}' } };
const result = { role: "tool", tool_call_id: "call_1", content: "done" };

/** The body Anthropic gets, which it must take. */
function sent(fields: object, facts: Partial<MessagesTarget> = {}): JsonObject {
  const bytes = encodeMessagesRequest(sampleRequest({ messages: [user], ...fields }), { ...target, ...facts });
  const body = JSON.parse(bytes.toString()) as JsonObject;
  assert.equal(faultOf(body, "2023-06-01"), undefined);
  return body;
}

function refusal(fields: object, facts: Partial<MessagesTarget> = {}): string | undefined {
  try {
    encodeMessagesRequest(sampleRequest({ messages: [user], ...fields }), { ...target, ...facts });
  } catch (error) {
    assert.ok(error instanceof ProviderFailure && error.code === "invalid_request" && !error.billable);
    return error.facts.param;
  }
  return undefined;
}

test("a plain request", () => {
  const body = sent({
    messages: [{ role: "system", content: "Be brief." }, user],
    temperature: 0.5,
    top_k: 3,
    stop: "END",
    user: "user-7",
    service_tier: "default",
    stream: true,
    stream_options: { include_usage: true },
    tags: ["t"],
    n: 1,
  });
  assert.deepEqual(body, {
    model: "claude-sonnet-4-5",
    max_tokens: 4096,
    system: [{ type: "text", text: "Be brief." }],
    messages: [{ role: "user", content: [{ type: "text", text: "Hello" }] }],
    stop_sequences: ["END"],
    metadata: { user_id: "user-7" },
    service_tier: "standard_only",
    temperature: 0.5,
    top_k: 3,
    stream: true,
  });
});

test("instructions may stand anywhere, and turns of one side are one", () => {
  const body = sent({
    messages: [
      user,
      { role: "developer", content: [{ type: "text", text: "Now in French." }] },
      { role: "user", content: "Hello?" },
      { role: "assistant", content: "Oui" },
      { role: "system", content: "Shorter." },
      { role: "user", content: "" },
      user,
    ],
  });
  assert.deepEqual(body.system, [
    { type: "text", text: "Now in French." },
    { type: "text", text: "Shorter." },
  ]);
  assert.deepEqual(body.messages, [
    {
      role: "user",
      content: [
        { type: "text", text: "Hello" },
        { type: "text", text: "Hello?" },
      ],
    },
    { role: "assistant", content: [{ type: "text", text: "Oui" }] },
    { role: "user", content: [{ type: "text", text: "Hello" }] },
  ]);
});

test("images and documents, by address and with their data", () => {
  const parts: [object, object][] = [
    [
      { type: "image_url", image_url: { url: "https://x.test/a.png" } },
      { type: "image", source: { type: "url", url: "https://x.test/a.png" } },
    ],
    [
      { type: "image_url", image_url: "data:image/jpeg;base64,AAAA", cache_control: { type: "ephemeral" } },
      {
        type: "image",
        source: { type: "base64", media_type: "image/jpeg", data: "AAAA" },
        cache_control: { type: "ephemeral" },
      },
    ],
    [
      { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,JVBE" } },
      { type: "document", source: { type: "base64", media_type: "application/pdf", data: "JVBE" }, title: "a.pdf" },
    ],
    [
      { type: "file", file: { file_id: "https://x.test/a.pdf" } },
      { type: "document", source: { type: "url", url: "https://x.test/a.pdf" } },
    ],
    [
      { type: "file", file: { file_id: "file_011" } },
      { type: "document", source: { type: "file", file_id: "file_011" } },
    ],
    [
      { type: "file", file: { file_data: "data:text/plain;base64,aGk=" } },
      { type: "document", source: { type: "text", media_type: "text/plain", data: "hi" } },
    ],
    [
      { type: "document", source: { type: "text", media_type: "text/plain", data: "x" }, citations: { enabled: true } },
      { type: "document", source: { type: "text", media_type: "text/plain", data: "x" }, citations: { enabled: true } },
    ],
  ];
  const body = sent({ messages: [{ role: "user", content: parts.map(([part]) => part) }] });
  assert.deepEqual(
    (body.messages as JsonObject[])[0]?.content,
    parts.map(([, block]) => block),
  );
  assert.equal(
    refusal({ messages: [{ role: "user", content: [{ type: "input_audio", input_audio: {} }] }] }),
    "messages[0].content[0]",
  );
});

test("tools, the choice between them, and their results", () => {
  const tools = [
    {
      type: "function",
      function: { name: "f", description: "F.", parameters: { type: "object", properties: { a: {} } }, strict: true },
      cache_control: { type: "ephemeral" },
    },
    { type: "web_search_20250305", name: "web_search", max_uses: 2 },
  ];
  const body = sent({ tools, tool_choice: "auto", parallel_tool_calls: false });
  assert.deepEqual(body.tools, [
    {
      name: "f",
      description: "F.",
      input_schema: { type: "object", properties: { a: {} } },
      strict: true,
      cache_control: { type: "ephemeral" },
    },
    tools[1],
  ]);
  const choices: [Json | undefined, boolean | undefined, object | undefined][] = [
    [undefined, undefined, undefined],
    [undefined, true, undefined],
    ["none", false, { type: "none" }],
    ["required", undefined, { type: "any" }],
    ["auto", false, { type: "auto", disable_parallel_tool_use: true }],
    [undefined, false, { type: "auto", disable_parallel_tool_use: true }],
    [{ type: "function", function: { name: "f" } }, undefined, { type: "tool", name: "f" }],
  ];
  for (const [tool_choice, parallel_tool_calls, expected] of choices) {
    assert.deepEqual(sent({ tools, tool_choice, parallel_tool_calls }).tool_choice, expected);
  }
  const second = { ...call, id: "call_2" };
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,AA" } };
  const messages = [
    user,
    { role: "assistant", content: "Looking.", tool_calls: [call, second] },
    result,
    { role: "tool", tool_call_id: "call_2", content: [image], cache_control: { type: "ephemeral" } },
    { role: "user", content: "Well?" },
  ];
  const answered = sent({ tools, messages }).messages as JsonObject[];
  assert.deepEqual(answered[1]?.content, [
    { type: "text", text: "Looking." },
    { type: "tool_use", id: "call_1", name: "f", input: { a: 1 } },
    { type: "tool_use", id: "call_2", name: "f", input: { a: 1 } },
  ]);
  assert.deepEqual(answered[2]?.content, [
    { type: "tool_result", tool_use_id: "call_1", content: "done" },
    {
      type: "tool_result",
      tool_use_id: "call_2",
      content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: "AA" } }],
      cache_control: { type: "ephemeral" },
    },
    { type: "text", text: "Well?" },
  ]);
  const search = sent({
    web_search_options: { search_context_size: "low", user_location: { approximate: { city: "Bern" } } },
  });
  assert.deepEqual(search.tools, [
    {
      type: "web_search_20250305",
      name: "web_search",
      max_uses: 1,
      user_location: { type: "approximate", city: "Bern" },
    },
  ]);
});

test("what Claude cannot be asked is refused by name", () => {
  assert.equal(refusal({ seed: 1 }), "seed");
  assert.equal(refusal({ n: 2 }), "n");
  assert.equal(refusal({ tool_choice: "sometimes", tools: [] }), "tool_choice");
  assert.equal(refusal({ tools: [{ type: "custom", custom: { name: "x" } }] }), "tools[0]");
  assert.equal(refusal({ reasoning_effort: "heroic" }), "reasoning_effort");
  assert.equal(refusal({ service_tier: "flex" }), "service_tier");
  const broken = { ...call, function: { name: "f", arguments: "{" } };
  const messages = [user, { role: "assistant", tool_calls: [broken] }, result];
  assert.equal(refusal({ messages }), "messages[1].tool_calls[0].function.arguments");
  assert.equal(sent({ seed: 1, service_tier: "flex", stop: [" ", "x"] }, { params: drops }).service_tier, undefined);
  assert.deepEqual(sent({ stop: [" ", "x"] }, { params: drops }).stop_sequences, ["x"]);
});

test("models that only know the default temperature are given none", () => {
  const model = "claude-opus-5";
  assert.equal(refusal({ temperature: 0.2 }, { model }), "temperature");
  assert.equal(sent({ temperature: 1, top_p: 1 }, { model }).temperature, undefined);
  assert.equal(sent({ temperature: 0.2 }, { model, params: drops }).temperature, undefined);
});

test("effort is a budget for older models, and theirs to spend for newer ones", () => {
  const thinkingOf = (model: string, fields: object) => {
    const { thinking, output_config } = sent({ max_tokens: 20_000, ...fields }, { model });
    return [thinking, output_config];
  };
  assert.deepEqual(thinkingOf("claude-sonnet-4-5", { reasoning_effort: "medium" }), [
    { type: "enabled", budget_tokens: 2048 },
    undefined,
  ]);
  assert.deepEqual(thinkingOf("claude-opus-4-6", { reasoning_effort: "high" }), [
    { type: "adaptive" },
    { effort: "high" },
  ]);
  assert.deepEqual(thinkingOf("claude-sonnet-5", { reasoning_effort: "minimal" }), [
    { type: "adaptive" },
    { effort: "low" },
  ]);
  assert.deepEqual(thinkingOf("claude-sonnet-4-5", { reasoning_effort: "none" }), [undefined, undefined]);
  const own = { type: "enabled", budget_tokens: 2000 };
  assert.deepEqual(thinkingOf("claude-sonnet-4-5", { thinking: own }), [own, undefined]);
  assert.deepEqual(sent({ thinking: own, max_tokens: 9000 }, { model: "claude-opus-5", params: modifies }).thinking, {
    type: "adaptive",
  });
});

test("a JSON format beside tools leaves the choice between them, and a model that thinks is not forced", () => {
  const response_format = { type: "json_object" };
  const tools = [{ type: "function", function: { name: "f" } }];
  assert.deepEqual(sent({ response_format, tools }).tool_choice, { type: "any" });
  assert.deepEqual(sent({ response_format, reasoning_effort: "low", max_tokens: 9000 }).tool_choice, { type: "auto" });
});

test("a conversation that Anthropic would refuse is mended where the operator allows it", () => {
  const messages = [
    { role: "assistant", content: "I begin " },
    { role: "system", content: "s" },
  ];
  assert.deepEqual(sent({ messages }, { params: modifies }).messages, [
    { role: "user", content: [{ type: "text", text: "Please continue." }] },
    { role: "assistant", content: [{ type: "text", text: "I begin" }] },
  ]);
  const withCalls = [user, { role: "assistant", tool_calls: [call] }, result];
  assert.equal(refusal({ messages: withCalls }), "tools");
  const mended = sent({ messages: withCalls, reasoning_effort: "low" }, { params: modifies });
  assert.equal((mended.tools as JsonObject[])[0]?.name, "dummy_tool");
  assert.equal(mended.thinking, undefined, "the thoughts before the call are lost");
});

test("an end user's address or telephone number is not sent on", () => {
  for (const user of ["a@b.test", "+41 79 123 45 67"]) assert.equal(sent({ user }).metadata, undefined);
  assert.deepEqual(sent({ user: "x", metadata: { user_id: "opaque", other: 1 } }).metadata, { user_id: "opaque" });
});

test("what Anthropic knows and OpenAI does not passes as it is", () => {
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.string().map((name) => `x-${name}`),
        fc.jsonValue(),
      ),
      (extra) => {
        const request = sampleRequest({ messages: [user], ...extra });
        const body = JSON.parse(encodeMessagesRequest(request, target).toString());
        for (const [key, value] of Object.entries(JSON.parse(JSON.stringify(extra)))) {
          if (value !== null) assert.deepEqual(body[key], value);
        }
      },
    ),
  );
});

test("conversations of any shape are written or refused, never thrown over", () => {
  const part = fc.oneof(
    fc.jsonValue(),
    fc.record({ type: fc.constantFrom("text", "image_url", "file", "refusal", "x"), text: fc.jsonValue() }),
  );
  const message = fc.record({
    role: fc.constantFrom("user", "assistant", "system", "tool", "developer", "y"),
    content: fc.oneof(fc.string(), fc.array(part), fc.jsonValue()),
    tool_calls: fc.jsonValue(),
    thinking_blocks: fc.jsonValue(),
  });
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 4 }),
      fc.jsonValue(),
      fc.jsonValue(),
      (messages, tools, format) => {
        const request = sampleRequest({ messages, tools, response_format: format });
        try {
          JSON.parse(encodeMessagesRequest(request, { ...target, params: modifies }).toString());
        } catch (error) {
          assert.ok(error instanceof ProviderFailure, String(error));
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("a model's traits are read from its name, wherever it is served", () => {
  const adaptive = [
    "claude-opus-4-6",
    "anthropic.claude-sonnet-4-6-v1:0",
    "claude-mythos-preview",
    "claude-haiku-5-5",
    "claude-sonnet-5",
  ];
  const older = [
    "claude-3-7-sonnet-20250219",
    "claude-opus-4-20250514",
    "claude-sonnet-4-5@20250929",
    "claude-3-haiku-20240307",
    "kimi-k2",
  ];
  assert.deepEqual(
    adaptive.map((model) => claudeTraits(model).isAdaptive),
    adaptive.map(() => true),
  );
  assert.deepEqual(
    older.map((model) => claudeTraits(model).isAdaptive),
    older.map(() => false),
  );
  assert.deepEqual(
    older.map((model) => claudeTraits(model).isStructured),
    [false, false, true, false, false],
  );
  assert.deepEqual(
    ["claude-opus-4-6", "claude-opus-4-7"].map((model) => claudeTraits(model).takesBudget),
    [true, false],
  );
});
