import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import type { CallEvent, JsonObject } from "../../src/completion.ts";
import { type ErrorCode, errorTable, GatewayError } from "../../src/errors.ts";
import { framesOf, messageFor } from "../anthropic-upstream.ts";
import { accepted, settled, TestDoor } from "./openai-door.ts";

let door: TestDoor;

function script(model: string, events: readonly (CallEvent | GatewayError)[]): void {
  door.gateway.scripts.set(model, async function* () {
    for (const event of events) {
      if (event instanceof GatewayError) throw event;
      yield event;
    }
  });
}

const start: CallEvent = { type: "start", id: "chatcmpl-1", model: "real", createdS: 1_700_000_000 };
const finish = (reason: string): CallEvent => ({ type: "finish", choice: 0, reason });
const delta = (fields: object): CallEvent => ({ type: "delta", choice: 0, ...fields });
const source = { type: "url_citation", url_citation: { url: "https://example.com", title: "E" } };

const rich: CallEvent[] = [
  ...[accepted, start],
  ...[delta({ reasoning: "Let me " }), delta({ reasoning: "think." }), delta({ signature: "c2ln" })],
  delta({ redactedReasoning: "b3Bh" }),
  ...[delta({ text: "Hello " }), delta({ text: "wörld" }), delta({ annotations: [source] })],
  delta({ toolCalls: [{ index: 0, id: "call_1", name: "weather", arguments: '{"city":' }] }),
  delta({ toolCalls: [{ index: 0, arguments: '"Bern"}' }] }),
  delta({ toolCalls: [{ index: 1, id: "call_2", name: "now" }] }),
  ...[delta({ choice: 1, text: "another choice" }), finish("tool_calls"), settled()],
];
const message = messageFor({ model: "claude", messages: [] });

before(async () => {
  door = await new TestDoor().open();
  script("rich", rich);
  script("plain", [accepted, start, delta({ text: "Hi" }), finish("stop"), settled()]);
  script("refusing", [accepted, start, delta({ refusal: "No." }), finish("content_filter"), settled()]);
  script("raw", [accepted, settled(JSON.stringify(message))]);
  const frames = framesOf(message);
  const bytes = Buffer.from(frames.slice(0, -1).join(""));
  script("raw-stream", [accepted, { type: "raw", bytes, outputTokens: 1 }, settled(frames.at(-1))]);
  script("broken", [accepted, start, delta({ text: "Hi" }), new GatewayError("stream_interrupted", "It broke.")]);
});
after(() => door.close());

const client = (options: object = {}) =>
  new Anthropic({ baseURL: door.url, apiKey: "sk-test", maxRetries: 0, ...options });
const ask = (model: string, fields: object = {}) => ({
  ...{ model, max_tokens: 100, messages: [{ role: "user" as const, content: "Hello" }] },
  ...fields,
});

const content = [
  { type: "thinking", thinking: "Let me think.", signature: "c2ln" },
  { type: "redacted_thinking", data: "b3Bh" },
  {
    type: "text",
    text: "Hello wörld",
    citations: [
      {
        type: "web_search_result_location",
        url: "https://example.com",
        title: "E",
        cited_text: "",
        encrypted_index: "",
      },
    ],
  },
  { type: "tool_use", id: "call_1", name: "weather", input: { city: "Bern" } },
  { type: "tool_use", id: "call_2", name: "now", input: {} },
];

test("Anthropic's client gets a whole message, whoever answers", async () => {
  const { data, response } = await client().messages.create(ask("rich")).withResponse();
  assert.equal(data.id, "msg_chatcmpl-1");
  assert.equal(data.role, "assistant");
  assert.deepEqual(data.content, content);
  assert.equal(data.stop_reason, "tool_use");
  assert.deepEqual([data.usage.input_tokens, data.usage.output_tokens], [3, 2]);
  assert.equal(response.headers.get("request-id"), response.headers.get("x-request-id"));
  assert.equal(response.headers.get("x-litellm-model-group"), "group");
  assert.equal(response.headers.get("anthropic-ratelimit-requests-remaining"), "4");
  assert.equal(response.headers.get("x-litellm-response-cost"), "0.0015");
});

test("Anthropic's client gathers the same from a stream", async () => {
  const stream = client().messages.stream(ask("rich"));
  const kinds: string[] = [];
  stream.on("streamEvent", ({ type }) => kinds.push(type));
  const whole = await stream.finalMessage();
  assert.deepEqual(whole.content, content);
  assert.equal(whole.stop_reason, "tool_use");
  assert.deepEqual([whole.usage.input_tokens, whole.usage.output_tokens], [3, 2]);
  assert.deepEqual([kinds[0], kinds.at(-2), kinds.at(-1)], ["message_start", "message_delta", "message_stop"]);
  const blocks = kinds.filter((kind) => kind === "content_block_start" || kind === "content_block_stop");
  assert.deepEqual(
    blocks,
    content.flatMap(() => ["content_block_start", "content_block_stop"]),
    "one after the other",
  );
});

test("why it stopped is told in Anthropic's words", async () => {
  assert.equal((await client().messages.create(ask("plain"))).stop_reason, "end_turn");
  const refused = await client().messages.create(ask("refusing"));
  assert.deepEqual([refused.stop_reason, refused.content], ["refusal", [{ type: "text", text: "No." }]]);
  script("long", [accepted, start, delta({ text: "Hi" }), finish("length"), settled()]);
  assert.equal((await client().messages.create(ask("long"))).stop_reason, "max_tokens");
});

test("bytes pass as they came", async () => {
  const whole = await post("/v1/messages", ask("raw"));
  assert.equal(await whole.text(), JSON.stringify(message));
  const stream = await post("/anthropic/v1/messages", ask("raw-stream", { stream: true }));
  assert.equal(await stream.text(), framesOf(message).join(""));
  assert.match(stream.headers.get("content-type") ?? "", /event-stream/);
});

test("the key may stand where Anthropic's clients put it, and the version and betas go with the request", async () => {
  const headers = {
    "x-api-key": "sk-own",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "a-2025-01-01, oauth-2025-04-20",
  };
  await post("/v1/messages?beta=true", ask("plain"), headers);
  const call = door.gateway.calls.at(-1);
  assert.deepEqual(
    [call?.caller.token, call?.caller.route, call?.caller.door],
    ["sk-own", "/v1/messages", "anthropic"],
  );
  assert.deepEqual(call?.request.wireHeaders, { "anthropic-version": "2023-06-01", "anthropic-beta": "a-2025-01-01" });
  await client().messages.create(ask("plain"));
  assert.equal(door.gateway.calls.at(-1)?.caller.token, "sk-test");
});

test("every failure has Anthropic's form, and its client's class", async () => {
  for (const code of Object.keys(errorTable) as ErrorCode[]) {
    if (code === "client_closed_request") continue;
    script(code, [new GatewayError(code, `It is ${code}.`)]);
    const error = await client()
      .messages.create(ask(code))
      .catch((thrown: unknown) => thrown);
    assert.ok(error instanceof APIError, code);
    assert.equal(error.status, errorTable[code].httpStatus);
    assert.equal(error.apiMessage, `It is ${code}.`);
    assert.equal(error.errorCode, code);
    assert.ok(error.requestID);
    assert.match(String(error.type), /_error$|^request_too_large$/);
  }
});

test("a refusal before the call has that form too: paths, methods, bodies", async () => {
  const refusals: [Response, number, string][] = [
    [await post("/v1/messages/nowhere", {}), 404, "not_found_error"],
    [await fetch(`${door.url}/v1/messages`), 405, "invalid_request_error"],
    [await post("/v1/messages", "{"), 400, "invalid_request_error"],
    [await post("/v1/messages", ask("plain", { max_tokens: undefined })), 400, "invalid_request_error"],
    [await post("/v1/messages", ask("plain", { api_base: "http://evil.test" })), 400, "invalid_request_error"],
  ];
  for (const [response, status, type] of refusals) {
    assert.equal(response.status, status);
    const body = (await response.json()) as { type: string; error: { type: string }; request_id: string };
    assert.deepEqual([body.type, body.error.type], ["error", type]);
    assert.equal(body.request_id, response.headers.get("request-id"));
  }
});

test("a stream that breaks off ends with an error event, and the client throws it", async () => {
  const stream = client().messages.stream(ask("broken"));
  await assert.rejects(stream.finalMessage(), (error) => error instanceof APIError && /It broke/.test(error.message));
  const text = await (await post("/v1/messages", ask("broken", { stream: true }))).text();
  assert.match(text, /event: error\ndata: \{"type":"error","error":\{"type":"api_error","message":"It broke\."/);
  assert.doesNotMatch(text, /message_stop/);
});

test("tokens are counted, and no cap is wanted for it", async () => {
  const { messages } = ask("plain");
  const counted = await client().messages.countTokens({ model: "plain", messages });
  assert.deepEqual(counted, { input_tokens: 42 });
  assert.equal(door.gateway.calls.at(-1)?.caller.route, "/v1/messages");
});

test("what Claude Code tells of itself is taken and forgotten", async () => {
  const response = await post("/api/event_logging/batch", { events: [{ event_type: "x" }] });
  assert.deepEqual([response.status, await response.json()], [200, { status: "ok" }]);
});

test("a stream that is silent is kept open by Anthropic's own ping", async () => {
  const quick = await new TestDoor({ pingMs: 30 }).open();
  quick.gateway.scripts.set("slow", async function* () {
    yield accepted;
    yield start;
    await new Promise((resolve) => setTimeout(resolve, 200));
    yield* [delta({ text: "Hi" }), finish("stop"), settled()];
  });
  const response = await fetch(`${quick.url}/v1/messages`, {
    ...{ method: "POST", headers: { "content-type": "application/json", "x-api-key": "sk-test" } },
    body: JSON.stringify(ask("slow", { stream: true })),
  });
  const pings = (await response.text()).match(/event: ping\n/g)?.length ?? 0;
  assert.ok(pings >= 2, `${pings} pings`);
  await quick.close();
});

function post(
  path: string,
  body: string | JsonObject | object,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(door.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-api-key": "sk-test", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}
