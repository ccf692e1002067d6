import assert from "node:assert/strict";
import { test } from "node:test";
import { chatOf } from "../../src/wires/responses-chat.ts";

const user = { role: "user", content: "Hello" };

test("a conversation with thoughts, calls, results, pictures and files becomes messages", () => {
  const { chat, unsayable } = chatOf({
    model: "m",
    stream: true,
    instructions: "Be brief.",
    input: [
      { role: "developer", content: "Be kind." },
      {
        type: "message",
        role: "user",
        content: [
          { type: "input_text", text: "What is this?" },
          { type: "input_image", image_url: "data:image/png;base64,AA==", detail: "low" },
          { type: "input_file", filename: "a.pdf", file_data: "data:application/pdf;base64,AA==" },
          { type: "input_file", file_url: "https://example.com/b.pdf" },
          { type: "input_audio", input_audio: { data: "AA==", format: "wav" } },
        ],
      },
      {
        type: "reasoning",
        id: "rs_1",
        summary: [{ type: "summary_text", text: "Hm." }],
        encrypted_content: "tollgate.signature:c2ln",
      },
      { type: "reasoning", id: "rs_2", summary: [], encrypted_content: "tollgate.redacted:b3BhcXVl" },
      { type: "reasoning", id: "rs_3", summary: [], encrypted_content: "gAAAAA" },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "Let me see.", annotations: [] }] },
      { type: "web_search_call", id: "ws_1", status: "completed" },
      { type: "function_call", id: "fc_1", call_id: "call_1", name: "f", arguments: '{"a":1}' },
      {
        ...{ type: "function_call", id: "fc_2", call_id: "call_2", name: "g", arguments: "{}" },
        provider_specific_fields: { thought_signature: "c2ln" },
      },
      { type: "function_call_output", call_id: "call_1", output: "sunny" },
      { type: "function_call_output", call_id: "call_2", output: [{ type: "input_text", text: "rainy" }] },
      { role: "user", content: "Thanks" },
    ],
  });
  assert.deepEqual(unsayable, []);
  assert.deepEqual(chat, {
    model: "m",
    stream: true,
    messages: [
      { role: "system", content: "Be brief." },
      { role: "developer", content: "Be kind." },
      {
        role: "user",
        content: [
          { type: "text", text: "What is this?" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AA==", detail: "low" } },
          { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,AA==" } },
          { type: "file", file: { file_id: "https://example.com/b.pdf" } },
          { type: "input_audio", input_audio: { data: "AA==", format: "wav" } },
        ],
      },
      {
        role: "assistant",
        content: "Let me see.",
        thinking_blocks: [
          { type: "thinking", thinking: "Hm.", signature: "c2ln" },
          { type: "redacted_thinking", data: "b3BhcXVl" },
        ],
        tool_calls: [
          { id: "call_1", type: "function", function: { name: "f", arguments: '{"a":1}' } },
          {
            ...{ id: "call_2", type: "function", function: { name: "g", arguments: "{}" } },
            provider_specific_fields: { thought_signature: "c2ln" },
          },
        ],
      },
      { role: "tool", tool_call_id: "call_1", content: "sunny" },
      { role: "tool", tool_call_id: "call_2", content: "rainy" },
      { role: "user", content: "Thanks" },
    ],
  });
});

test("parameters have chat's names, hints are left out, and what is unknown passes", () => {
  const schema = { type: "object", properties: { a: { type: "string" } } };
  const { chat, unsayable } = chatOf({
    ...{ model: "m", input: "Hello", max_output_tokens: 50, temperature: 0.5, top_p: null, x_unknown: { kept: 1 } },
    text: { format: { type: "json_schema", name: "place", schema, strict: true }, verbosity: "low" },
    reasoning: { effort: "high", summary: "auto" },
    tools: [
      { type: "function", name: "f", description: "d", parameters: schema, strict: true },
      { type: "function", name: "g" },
      { type: "web_search", search_context_size: "low", user_location: { type: "approximate", country: "CH" } },
    ],
    ...{ tool_choice: { type: "function", name: "f" }, parallel_tool_calls: false, top_logprobs: 3 },
    include: ["reasoning.encrypted_content", "message.output_text.logprobs"],
    ...{ store: false, truncation: "disabled", prompt_cache_key: "k", safety_identifier: "s", background: false },
    ...{ user: "u", metadata: { a: "b" }, service_tier: "flex", tags: ["t"] },
  });
  assert.deepEqual(unsayable, []);
  assert.deepEqual(chat, {
    ...{ model: "m", messages: [user], max_completion_tokens: 50, temperature: 0.5, x_unknown: { kept: 1 } },
    response_format: { type: "json_schema", json_schema: { name: "place", schema, strict: true } },
    ...{ verbosity: "low", reasoning_effort: "high" },
    tools: [
      { type: "function", function: { name: "f", description: "d", parameters: schema, strict: true } },
      { type: "function", function: { name: "g", parameters: { type: "object", properties: {} } } },
    ],
    web_search_options: {
      search_context_size: "low",
      user_location: { type: "approximate", approximate: { country: "CH" } },
    },
    ...{ tool_choice: { type: "function", function: { name: "f" } }, parallel_tool_calls: false },
    ...{ logprobs: true, top_logprobs: 3, user: "u", metadata: { a: "b" }, service_tier: "flex", tags: ["t"] },
  });
});

test("of allowed tools the others are left out", () => {
  const tools = ["f", "g", "h"].map((name) => ({ type: "function", name }));
  const allowed = { type: "allowed_tools", mode: "required", tools: [{ type: "function", name: "g" }] };
  const { chat } = chatOf({ model: "m", input: "Hello", tools, tool_choice: allowed });
  assert.equal(chat.tool_choice, "required");
  assert.deepEqual(chat.tools, [
    { type: "function", function: { name: "g", parameters: { type: "object", properties: {} } } },
  ]);
});

test("what chat has no word for is named, and told apart from what may be left out", () => {
  const params = (fields: object) =>
    chatOf({ model: "m", input: "Hello", ...fields }).unsayable.map(({ param, isContent }) => `${param} ${isContent}`);
  assert.deepEqual(params({ tools: [{ type: "mcp" }, { type: "function", name: "f" }, { type: "custom" }] }), [
    "tools[0] false",
    "tools[2] false",
  ]);
  assert.deepEqual(params({ tool_choice: { type: "file_search" } }), ["tool_choice false"]);
  assert.deepEqual(params({ store: true, truncation: "auto", max_tool_calls: 3 }), [
    "store false",
    "truncation false",
    "max_tool_calls false",
  ]);
  assert.deepEqual(params({ prompt: { id: "pmpt_1" } }), ["prompt true"]);
  assert.deepEqual(params({ input: [user, { type: "item_reference", id: "x" }, { type: "computer_call" }, 7] }), [
    "input[1] true",
    "input[2] true",
    "input[3] true",
  ]);
  assert.deepEqual(params({ input: [{ role: "user", content: [{ type: "input_image", file_id: "file-1" }] }] }), [
    "input[0] true",
  ]);
});
