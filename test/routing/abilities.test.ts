import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Ability } from "../../src/config/config.ts";
import { abilityCheck } from "../../src/routing/abilities.ts";
import { sampleDeployment } from "../sample-call.ts";
import { sampleAsk } from "./sample-candidates.ts";

const tool = { type: "function", function: { name: "f", parameters: {} } };
const said = (part: object) => ({ messages: [{ role: "user", content: [{ type: "text", text: "?" }, part] }] });
const image = said({ type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } });

/** What a model does not do, bodies it cannot take, and bodies like these that it can. */
const rows: readonly [Ability, readonly object[], readonly object[]][] = [
  ["function_calling", [{ tools: [tool] }, { functions: [{ name: "f" }] }], [{ tools: [] }, { tools: null }, {}]],
  ["parallel_function_calling", [{ parallel_tool_calls: true }], [{ parallel_tool_calls: false }, { tools: [tool] }]],
  ["tool_choice", [{ tool_choice: "required" }], [{ tool_choice: null }, { tools: [tool] }]],
  [
    "response_schema",
    [{ response_format: { type: "json_schema", json_schema: { name: "s", schema: {} } } }],
    [{ response_format: { type: "json_object" } }, { response_format: "json_schema" }],
  ],
  ["vision", [image], [{}, { messages: [{ role: "user", content: "image_url" }] }, { messages: ["image_url"] }]],
  ["audio_input", [said({ type: "input_audio", input_audio: { data: "AAAA", format: "wav" } })], [image]],
  ["audio_output", [{ modalities: ["text", "audio"] }], [{ modalities: ["text"] }, { modalities: "audio" }]],
  ["pdf_input", [said({ type: "file", file: { file_data: "AAAA" } })], [image]],
  ["web_search", [{ web_search_options: {} }], [{ web_search_options: null }]],
  [
    "reasoning",
    [{ reasoning_effort: "low" }, { thinking: { type: "enabled", budget_tokens: 1024 } }],
    [{ reasoning_effort: "none" }, { reasoning_effort: null }],
  ],
  [
    "system_messages",
    [{ messages: [{ role: "system", content: "." }] }, { messages: [{ role: "developer", content: "." }] }],
    [{ messages: [{ role: "user", content: "system" }] }],
  ],
];

describe("a deployment whose model is known not to do", () => {
  for (const [ability, taken, passed] of rows) {
    test(`${ability} is passed over by calls that need it, and by no others`, () => {
      const deployment = sampleDeployment({ lacks: new Set([ability]) });
      for (const body of taken) {
        const exclusion = abilityCheck(deployment, sampleAsk(body));
        assert.equal(exclusion?.reason, "unsupported", JSON.stringify(body));
        assert.match(exclusion.detail, new RegExp(`^does not take .*supports_${ability}: false`));
        assert.equal(abilityCheck(sampleDeployment(), sampleAsk(body)), undefined, "what nobody says is there");
      }
      for (const body of passed)
        assert.equal(abilityCheck(deployment, sampleAsk(body)), undefined, JSON.stringify(body));
    });
  }
});

test("a deployment that takes some parameters only is passed over by calls with others", () => {
  const deployment = sampleDeployment({ takesOnly: new Set(["temperature", "tools"]) });
  const detailOf = (body: object) => abilityCheck(deployment, sampleAsk(body))?.detail;
  assert.equal(detailOf({ temperature: 1, tools: [tool], top_k: null }), undefined);
  assert.equal(detailOf({ top_k: 3 }), "does not take top_k (supported_openai_params)");
  assert.equal(detailOf({ seed: 0 }), "does not take seed (supported_openai_params)");
  const always = { max_tokens: 1, max_completion_tokens: 1, stream: true, user: "u", metadata: {}, tags: ["t"] };
  assert.equal(detailOf(always), undefined, "what the gateway writes itself, or keeps for itself, is not in question");
});
