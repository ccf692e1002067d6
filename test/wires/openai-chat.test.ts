import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { CompletionRequest } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { type ChatTarget, decodeChatRequest, encodeChatRequest } from "../../src/wires/openai-chat.ts";

const messages = [{ role: "user", content: "hi" }];
const target: ChatTarget = {
  model: "gpt-real",
  outputTokensMax: undefined,
  outputCapField: "max_tokens",
  provider: "openai",
  params: { lacks: new Set(), drops: false, leavesOut: [], modifies: false },
};

function decode(body: unknown): CompletionRequest {
  const request = decodeChatRequest(Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
  if (request instanceof GatewayError) throw request;
  return request;
}

function refusal(body: string | Buffer | object): { code: string; param: string | undefined; message: string } {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  const error = decodeChatRequest(bytes);
  assert.ok(error instanceof GatewayError, "expected a refusal");
  return { code: error.code, param: error.facts.param, message: error.message };
}

function encode(body: unknown, changes: Partial<ChatTarget> = {}): string {
  return encodeChatRequest(decode(body), { ...target, ...changes }).toString();
}

test("a request's facts are read", () => {
  const request = decode({
    model: "m",
    messages,
    stream: true,
    stream_options: { include_usage: true },
    n: 3,
    max_tokens: 50,
    max_completion_tokens: 40,
    user: "end-user",
    tags: ["a", 1, "b"],
    metadata: { tags: ["b", "c"], other: "x" },
  });
  assert.equal(request.model, "m");
  assert.equal(request.stream, true);
  assert.equal(request.includeUsage, true);
  assert.equal(request.choiceCount, 3);
  assert.equal(request.outputTokensMax, 40);
  assert.equal(request.endUser, "end-user");
  assert.deepEqual(request.tags, ["a", "b", "c"]);
  assert.equal(request.inputTokensMax, request.raw?.bytes.length);
  assert.equal(request.chat().model, "m");
});

test("null stands for absent, as OpenAI's clients send it", () => {
  const request = decode({ model: "m", messages, stream: null, n: null, max_tokens: null, stream_options: null });
  assert.equal(request.stream, false);
  assert.equal(request.choiceCount, 1);
  assert.equal(request.outputTokensMax, undefined);
});

test("an image may cost more tokens than its URL has bytes", () => {
  const content = [
    { type: "text", text: "what is this?" },
    { type: "image_url", image_url: { url: "https://example.test/a.png" } },
  ];
  const request = decode({ model: "m", messages: [{ role: "user", content }] });
  assert.ok(request.inputTokensMax > 48_000);
});

test("a document that the provider fetches may fill half of the longest context", () => {
  const inputOf = (part: object) => {
    const body = { model: "m", messages: [{ role: "user", content: [part] }] };
    return decode(body).inputTokensMax - JSON.stringify(body).length;
  };
  const remote = [
    { type: "file", file: { file_id: "file_1" } },
    { type: "file", file: { file_data: "https://x.test/a.pdf" } },
    { type: "image_url", image_url: { url: "https://x.test/a.pdf", format: "application/pdf" } },
    { type: "document", source: { type: "url", url: "https://x.test/a.pdf" } },
  ];
  for (const part of remote) assert.equal(inputOf(part), 500_000, JSON.stringify(part));
  assert.equal(inputOf({ type: "file", file: { file_data: "data:application/pdf;base64,JVBE" } }), 50_000);
  assert.equal(inputOf({ type: "image_url", image_url: { url: "https://x.test/a.png" } }), 50_000);
  assert.equal(inputOf({ type: "text", text: "x" }), 0);
});

test("broken JSON is refused with its position and without its content", () => {
  const error = refusal('{"model":"m","secret-canary" 1}');
  assert.equal(error.code, "invalid_json");
  assert.match(error.message, /character \d+/);
  assert.doesNotMatch(error.message, /canary/);
  assert.equal(refusal("hello-canary").code, "invalid_json");
  assert.doesNotMatch(refusal("hello-canary").message, /canary/);
  assert.equal(refusal("").code, "invalid_json");
  assert.equal(refusal('{"model":').code, "invalid_json");
});

test("invalid UTF-8 is refused", () => {
  const bytes = Buffer.concat([Buffer.from('{"model":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]);
  assert.deepEqual(refusal(bytes), { code: "invalid_json", param: undefined, message: "The body is not valid UTF-8." });
});

test("wrong fields are refused by name", () => {
  const cases: [object, string][] = [
    [{ messages }, "model"],
    [{ model: "", messages }, "model"],
    [{ model: 3, messages }, "model"],
    [{ model: ["a", "b"], messages }, "model"],
    [{ model: "m".repeat(257), messages }, "model"],
    [{ model: "m" }, "messages"],
    [{ model: "m", messages: [] }, "messages"],
    [{ model: "m", messages: "hi" }, "messages"],
    [{ model: "m", messages, stream: "yes" }, "stream"],
    [{ model: "m", messages, stream_options: [] }, "stream_options"],
    [{ model: "m", messages, n: 0 }, "n"],
    [{ model: "m", messages, n: 1000 }, "n"],
    [{ model: "m", messages, n: 1.5 }, "n"],
    [{ model: "m", messages, max_tokens: "100" }, "max_tokens"],
    [{ model: "m", messages, max_completion_tokens: -1 }, "max_completion_tokens"],
  ];
  for (const [body, param] of cases) {
    const error = refusal(body);
    assert.deepEqual([error.code, error.param], ["invalid_request", param], JSON.stringify(body).slice(0, 80));
  }
  assert.equal(refusal("[]").code, "invalid_request");
});

test("where a request goes and with whose credentials is not the caller's to say", () => {
  const fields = ["api_base", "base_url", "api_key", "user_config", "extra_headers", "organization", "aws_region_name"];
  for (const field of [...fields, "vertex_credentials", "custom_llm_provider", "extra_body"]) {
    const error = refusal({ model: "m", messages, [field]: "http://169.254.169.254/" });
    assert.deepEqual([error.code, error.param], ["invalid_request", field]);
  }
  assert.equal(refusal(`{"model":"m","messages":[1],"api_b\\u0061se":"x"}`).param, "api_base");
});

test("a governed field given twice is refused, for two parsers could read two values", () => {
  assert.equal(refusal('{"max_tokens":9999,"model":"m","messages":[{}],"max_tokens":1}').param, "max_tokens");
  assert.equal(refusal('{"model":"cheap","messages":[{}],"mod\\u0065l":"dear"}').param, "model");
});

test("the pass-through lane changes the model's bytes and no others", () => {
  const before =
    '{ "model" : "m",\n "messages":[{"role":"user","content":"\\u00fc ü"}], "x_new": {"a":[1.0, 2e3]}, "temperature":1.0 }';
  assert.equal(encode(before), before.replace('"m"', '"gpt-real"'));
});

test("a stream reports its usage whatever the caller said, and keeps its other options", () => {
  const plain = { model: "m", messages, stream: true };
  assert.deepEqual(JSON.parse(encode(plain)).stream_options, { include_usage: true });
  assert.deepEqual(
    JSON.parse(encode({ ...plain, stream_options: { include_usage: false, include_obfuscation: false } }))
      .stream_options,
    {
      include_usage: true,
      include_obfuscation: false,
    },
  );
  const asked = `{"model":"gpt-real","messages":[{}],"stream":true,"stream_options":{ "include_usage" : true }}`;
  assert.equal(encode(asked), asked);
  const lacking = { params: { ...target.params, lacks: new Set(["stream_options"]) } };
  assert.equal(JSON.parse(encode(plain, lacking)).stream_options, undefined);
  assert.equal(
    JSON.parse(encode({ ...plain, stream_options: { include_usage: true } }, lacking)).stream_options,
    undefined,
  );
  assert.equal(JSON.parse(encode({ model: "m", messages })).stream_options, undefined);
});

test("a parameter that the provider calls something else goes under its name there", () => {
  const renaming = { params: { ...target.params, renames: { seed: "random_seed" } } };
  assert.equal(
    encode('{"model":"gpt-real", "seed":7,"messages":[{}]}', renaming),
    '{"model":"gpt-real","messages":[{}],"random_seed":7}',
  );
});

test("one cap is sent under one name", () => {
  const both = { model: "m", max_tokens: 100, messages, max_completion_tokens: 20 };
  assert.deepEqual(JSON.parse(encode(both)), { model: "gpt-real", messages, max_tokens: 20 });
  assert.deepEqual(JSON.parse(encode(both, { outputCapField: "max_completion_tokens" })), {
    model: "gpt-real",
    messages,
    max_completion_tokens: 20,
  });
  assert.equal(JSON.parse(encode({ model: "m", messages }, { outputTokensMax: 7 })).max_tokens, 7);
  assert.equal(JSON.parse(encode({ model: "m", messages, max_tokens: 9 }, { outputTokensMax: 7 })).max_tokens, 7);
});

test("fields that speak to the gateway stay here", () => {
  const body = {
    tags: ["t"],
    model: "m",
    fallbacks: [{ model: "x", api_base: "http://evil.test" }],
    num_retries: 1,
    messages,
    timeout: 3,
    cache: { "no-cache": true },
    guardrails: ["g"],
    priority: 1,
    disable_fallbacks: true,
    mock_response: "free lunch",
    mock_testing_fallbacks: true,
    metadata: { tags: ["x"], keep: "me" },
    litellm_session_id: "s",
    seed: 1,
  };
  assert.equal(encode(body), JSON.stringify({ model: "gpt-real", messages, metadata: { keep: "me" }, seed: 1 }));
  assert.equal(
    encode({ model: "m", messages, metadata: { tags: ["x"] } }),
    JSON.stringify({ model: "gpt-real", messages }),
  );
  const strings = { model: "m", messages, metadata: { tags: "a string is OpenAI's own" } };
  assert.deepEqual(JSON.parse(encode(strings)), { ...strings, model: "gpt-real" });
});

test("a request from another door is written from the neutral form with the same changes", () => {
  const request: CompletionRequest = {
    ...decode({ model: "m", messages, max_completion_tokens: 5, tags: ["t"], temperature: 0 }),
    wire: undefined,
    raw: undefined,
    stream: true,
  };
  assert.deepEqual(JSON.parse(encodeChatRequest(request, target).toString()), {
    model: "gpt-real",
    messages,
    max_tokens: 5,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  assert.equal(request.chat().model, "m");
});

test("what a deployment leaves out is left out of both lanes, and the rest of the bytes stay", () => {
  const params = { ...target.params, leavesOut: ["seed", "tools[*].strict"] };
  const body = { model: "m", messages, seed: 1, tools: [{ strict: true, type: "function" }], x: { y: 1 } };
  const expected = { model: "gpt-real", messages, tools: [{ type: "function" }], x: { y: 1 } };
  assert.equal(encode(body, { params }), JSON.stringify(expected));
  const neutral = { ...decode(body), wire: undefined, raw: undefined };
  assert.deepEqual(JSON.parse(encodeChatRequest(neutral, { ...target, params }).toString()), expected);
});

test("marks for caches and other providers' reasoning go to no OpenAI server, thinking as an effort", () => {
  const cache_control = { type: "ephemeral" };
  const body = {
    model: "m",
    messages: [
      { role: "system", content: [{ type: "text", text: "s", cache_control }] },
      {
        role: "assistant",
        content: null,
        thinking_blocks: [{ type: "thinking", thinking: "t", signature: "s" }],
        tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" }, cache_control }],
      },
      { role: "tool", tool_call_id: "1", content: "r", cache_control },
    ],
    tools: [{ type: "function", function: { name: "f" }, cache_control }],
    thinking: { type: "enabled", budget_tokens: 6_000 },
  };
  const neutral = { ...decode(body), wire: undefined, raw: undefined };
  const sentTo = (model: string) => JSON.parse(encodeChatRequest(neutral, { ...target, model }).toString());
  assert.deepEqual(sentTo("gpt-5"), {
    model: "gpt-5",
    messages: [
      { role: "system", content: [{ type: "text", text: "s" }] },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }],
      },
      { role: "tool", tool_call_id: "1", content: "r" },
    ],
    tools: [{ type: "function", function: { name: "f" } }],
    reasoning_effort: "medium",
  });
  assert.equal(sentTo("gpt-4o").reasoning_effort, undefined, "it refuses to be told");
  assert.equal(
    encode(body),
    JSON.stringify({ ...body, model: "gpt-real" }),
    "who speaks OpenAI's wire is not corrected",
  );
});

test("unknown fields survive, whatever they are", () => {
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.string().map((name) => `x-${name}`),
        fc.jsonValue(),
      ),
      fc.constantFrom(undefined, 2),
      (extra, indent) => {
        const body = { ...extra, model: "m", messages, max_tokens: 3 };
        const text = JSON.stringify(body, null, indent);
        const [before = "", after = ""] = text.split(/"m"(?=,\s*"messages")/);
        assert.equal(encode(text), `${before}"gpt-real"${after}`);
      },
    ),
    { numRuns: 300 },
  );
});

test("no bytes make the codec throw", () => {
  const piece = fc.constantFrom(
    '{"model":"m"',
    '"messages":[1]',
    ",",
    "}",
    "]",
    '"stream":true',
    '"n":1',
    ":",
    "\\",
    '"',
    "nul",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 12 }), (pieces) => {
      const request = decodeChatRequest(Buffer.from(pieces.join("")));
      if (!(request instanceof GatewayError)) JSON.parse(encodeChatRequest(request, target).toString());
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => {
      assert.ok(decodeChatRequest(Buffer.from(noise)) instanceof GatewayError);
    }),
  );
});
