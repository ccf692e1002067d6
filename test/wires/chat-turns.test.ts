import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ProviderFailure } from "../../src/errors.ts";
import { encodeBedrockRequest } from "../../src/wires/bedrock-chat.ts";
import { encodeGeminiRequest } from "../../src/wires/gemini-chat.ts";
import { neutralRequest } from "../sample-call.ts";

const params = { lacks: new Set<string>(), drops: false, leavesOut: [], modifies: false };
const encoders = [
  (fields: object) =>
    encodeBedrockRequest(neutralRequest(fields), {
      ...{ model: "anthropic.claude-sonnet-4-5", outputTokensMax: 5_000, provider: "bedrock", params },
    }),
  (fields: object) =>
    encodeGeminiRequest(neutralRequest(fields), {
      ...{ model: "gemini-3-pro", outputTokensMax: 5_000, provider: "gemini", params },
    }),
];

const odd = fc.oneof({ weight: 3, arbitrary: fc.jsonValue({ maxDepth: 2 }) }, fc.constant(undefined));
const part = fc.oneof(
  odd,
  fc.record({ type: fc.constantFrom("text", "refusal", "thinking"), text: odd, refusal: odd, thinking: odd }),
  fc.record({
    type: fc.constant("image_url"),
    image_url: fc.oneof(odd, fc.record({ url: fc.oneof(odd, fc.webUrl()) })),
  }),
  fc.record({ type: fc.constant("file"), file: fc.oneof(odd, fc.record({ file_data: odd, filename: odd })) }),
  fc.record({ type: fc.constant("input_audio"), input_audio: odd }),
);
const call = fc.oneof(
  odd,
  fc.record({ id: odd, function: fc.oneof(odd, fc.record({ name: fc.oneof(odd, fc.string()), arguments: odd })) }),
);
/** Most messages are sound, so that most of a chat is looked at. */
const sound = fc.record({
  role: fc.constantFrom("system", "user", "assistant", "tool"),
  content: fc.oneof(fc.string(), fc.array(fc.record({ type: fc.constant("text"), text: fc.string() }))),
  thinking_blocks: odd,
  provider_specific_fields: odd,
  cache_control: odd,
});
const message = fc.oneof(
  { weight: 12, arbitrary: sound },
  odd,
  fc.record({
    role: fc.oneof(odd, fc.constantFrom("system", "user", "assistant", "tool", "function", "developer")),
    content: fc.oneof(odd, fc.string(), fc.array(part, { maxLength: 4 })),
    tool_calls: fc.oneof(odd, fc.array(call, { maxLength: 3 })),
    tool_call_id: odd,
    thinking_blocks: fc.oneof(odd, fc.array(odd, { maxLength: 3 })),
    provider_specific_fields: odd,
    cache_control: odd,
  }),
);
const tool = fc.oneof(odd, fc.record({ type: fc.constant("function"), function: odd, cache_control: odd }));
const body = fc.record(
  {
    messages: fc.array(message, { minLength: 1, maxLength: 6 }),
    tools: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, odd, fc.array(tool, { maxLength: 3 })),
    ...{ tool_choice: odd, response_format: odd, stop: odd, reasoning_effort: odd, thinking: odd, modalities: odd },
    ...{
      audio: odd,
      service_tier: odd,
      temperature: odd,
      top_k: odd,
      functions: odd,
      web_search_options: odd,
      own: odd,
    },
  },
  { requiredKeys: ["messages"] },
);

test("fuzz: whatever a chat is, it is written as JSON or refused as the caller's fault", () => {
  let written = 0;
  fc.assert(
    fc.property(body, (fields) => {
      for (const encode of encoders) {
        try {
          const sent = JSON.parse(encode(fields).toString());
          assert.ok(Array.isArray(sent.messages ?? sent.contents));
          written += 1;
        } catch (error) {
          assert.ok(error instanceof ProviderFailure, String(error));
          assert.equal(error.code, "invalid_request");
          assert.ok(error.facts.param !== undefined);
        }
      }
    }),
    { numRuns: 2_000 },
  );
  assert.ok(written > 10, `only ${written} were written`);
});
