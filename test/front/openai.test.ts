import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI, { APIError } from "openai";
import type { CallEvent } from "../../src/completion.ts";
import { type ErrorCode, type ErrorFacts, GatewayError } from "../../src/errors.ts";
import { accepted, type CallScript, chatBody, settled, TestDoor } from "./openai-door.ts";

let door: TestDoor;

function script(model: string, events: readonly (CallEvent | GatewayError)[]): void {
  door.gateway.scripts.set(model, async function* () {
    for (const event of events) {
      if (event instanceof GatewayError) throw event;
      yield event;
    }
  } satisfies CallScript);
}

function failing(code: ErrorCode, facts?: ErrorFacts): void {
  script(code, [new GatewayError(code, `It is ${code}.`, facts)]);
}

const neutral: CallEvent[] = [
  accepted,
  { type: "start", id: "chatcmpl-1", model: "real", createdS: 1_700_000_000 },
  { type: "delta", choice: 0, text: "Hello " },
  { type: "delta", choice: 0, text: "wörld" },
  { type: "finish", choice: 0, reason: "stop" },
  settled(),
];

const frames = 'data: {"id":"x","choices":[{"index":0,"delta":{"content":"ü"}}],"unknown":1}\n\n';

before(async () => {
  door = await new TestDoor().open();
  script("neutral", neutral);
  script("raw", [accepted, settled('{"id":"x","choices":[], "unknown":[1.0]}')]);
  script("raw-stream", [
    accepted,
    { type: "raw", bytes: Buffer.from(frames), outputTokens: 1 },
    { type: "raw", bytes: Buffer.from(frames + frames), outputTokens: 2 },
    settled("data: [DONE]\n\n"),
  ]);
  script("breaks", [...neutral.slice(0, 3), new GatewayError("stream_interrupted", "The provider broke off.")]);
});

after(() => door.close());

test("an unchanged OpenAI client completes, and finds the call's facts in the headers", async () => {
  const { data, response, request_id } = await door
    .client()
    .chat.completions.create(chatBody("neutral"))
    .withResponse();
  assert.equal(data.choices[0]?.message.content, "Hello wörld");
  assert.equal(data.usage?.total_tokens, 5);
  assert.match(request_id ?? "", /^[0-9a-f-]{36}$/);
  const facts = Object.fromEntries(
    [...response.headers].filter(([name]) => name.startsWith("x-") && name !== "x-request-id"),
  );
  assert.deepEqual(facts, {
    "x-litellm-attempted-fallbacks": "0",
    "x-litellm-attempted-retries": "1",
    "x-litellm-call-id": "call-1",
    "x-litellm-model-group": "group",
    "x-litellm-model-id": "deployment-1",
    "x-litellm-response-cost": "0.0015",
    "x-litellm-timeout": "5.0",
    "x-ratelimit-api_key-limit-requests": "100",
    "x-ratelimit-api_key-limit-tokens": "5000",
    "x-ratelimit-api_key-remaining-requests": "99",
    "x-ratelimit-api_key-remaining-tokens": "4321",
    "x-ratelimit-limit-requests": "10",
    "x-ratelimit-limit-tokens": "5000",
    "x-ratelimit-remaining-requests": "4",
    "x-ratelimit-remaining-tokens": "4321",
    "x-ratelimit-team-limit-requests": "10",
    "x-ratelimit-team-remaining-requests": "4",
  });
});

test("an unchanged OpenAI client streams, with usage if it asks", async () => {
  const body = chatBody("neutral", { stream: true as const, stream_options: { include_usage: true } });
  const stream = await door.client().chat.completions.create({ ...body, stream: true });
  let text = "";
  let total: number | undefined;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    total = chunk.usage?.total_tokens ?? total;
  }
  assert.equal(text, "Hello wörld");
  assert.equal(total, 5);
});

test("raw bytes reach the caller as they are, and what was settled comes last", async () => {
  assert.equal(await (await door.post(chatBody("raw"))).text(), '{"id":"x","choices":[], "unknown":[1.0]}');
  const response = await door.post(chatBody("raw-stream", { stream: true }));
  assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  assert.equal(response.headers.get("cache-control"), "no-cache");
  assert.equal(response.headers.get("x-accel-buffering"), "no");
  assert.equal(response.headers.get("access-control-allow-origin"), null);
  assert.equal(await response.text(), `${frames}${frames}${frames}data: [DONE]\n\n`);
});

test("errors raise the client's typed exceptions", async () => {
  const cases: [ErrorCode, new (...args: never[]) => APIError, number][] = [
    ["invalid_request", OpenAI.BadRequestError, 400],
    ["missing_api_key", OpenAI.AuthenticationError, 401],
    ["model_not_allowed", OpenAI.PermissionDeniedError, 403],
    ["model_not_found", OpenAI.NotFoundError, 404],
    ["rate_limit_exceeded", OpenAI.RateLimitError, 429],
    ["budget_exceeded", OpenAI.RateLimitError, 429],
    ["provider_error", OpenAI.InternalServerError, 502],
    ["keyservice_unavailable", OpenAI.InternalServerError, 503],
    ["provider_timeout", OpenAI.InternalServerError, 504],
  ];
  for (const [code, type, status] of cases) {
    failing(code, code === "invalid_request" ? { param: "n" } : {});
    for (const stream of [false, true]) {
      await assert.rejects(door.client().chat.completions.create({ ...chatBody(code), stream }), (error) => {
        assert.ok(error instanceof type && error instanceof APIError);
        assert.equal(error.status, status);
        assert.equal(error.code, code);
        assert.equal(error.param, code === "invalid_request" ? "n" : null);
        assert.ok(error.message.includes(`It is ${code}.`));
        assert.ok(error.requestID);
        return true;
      });
    }
  }
});

test("clients repeat what may be repeated, when they are told to, and nothing else", async () => {
  failing("rate_limit_exceeded", { retryAfterMs: 20 });
  const limited = await door.post(chatBody("rate_limit_exceeded"));
  assert.equal(limited.headers.get("x-should-retry"), "true");
  assert.equal(limited.headers.get("retry-after"), "1");
  assert.equal(limited.headers.get("retry-after-ms"), "21");
  failing("provider_unavailable", { retryAfterMs: 3_600_000 });
  const capped = await door.post(chatBody("provider_unavailable"));
  assert.equal(capped.headers.get("retry-after"), "60");
  assert.equal(capped.headers.get("retry-after-ms"), "60000");
  failing("budget_exceeded");
  const broke = await door.post(chatBody("budget_exceeded"));
  assert.equal(broke.headers.get("x-should-retry"), "false");
  assert.equal(broke.headers.get("retry-after"), null);
  assert.equal(broke.headers.get("retry-after-ms"), null);
  assert.equal(((await broke.json()) as { error: { type: string } }).error.type, "budget_exceeded");
  failing("provider_error", { retry: false });
  assert.equal((await door.post(chatBody("provider_error"))).headers.get("x-should-retry"), "false");

  const asked = door.gateway.calls.length;
  await assert.rejects(door.client({ maxRetries: 2 }).chat.completions.create(chatBody("rate_limit_exceeded")));
  assert.equal(door.gateway.calls.length - asked, 3);
  await assert.rejects(door.client({ maxRetries: 2 }).chat.completions.create(chatBody("budget_exceeded")));
  assert.equal(door.gateway.calls.length - asked, 4);
});

test("a failure in the middle of a stream raises an error in the client, and never looks like an end", async () => {
  const stream = await door.client().chat.completions.create({ ...chatBody("breaks"), stream: true });
  let text = "";
  await assert.rejects(
    async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    },
    (error) => {
      assert.ok(error instanceof APIError);
      assert.equal(error.code, "stream_interrupted");
      return true;
    },
  );
  assert.equal(text, "Hello ");
  const raw = await (await door.post(chatBody("breaks", { stream: true }))).text();
  assert.match(raw, /data: \{"error":\{"message":"The provider broke off\."[^\n]*\n\n$/);
  assert.doesNotMatch(raw, /\[DONE\]/);
});

test("a failure of ours is told to the operator and not to the caller", async () => {
  door.gateway.scripts.set("bug", () => {
    throw new TypeError("secret detail");
  });
  const response = await door.post(chatBody("bug"));
  assert.equal(response.status, 500);
  assert.doesNotMatch(await response.text(), /secret detail/);
  assert.ok(door.bugs.some((bug) => bug instanceof TypeError));
});

test("what the caller says about itself reaches the gateway", async () => {
  await door.post(chatBody("raw"), {
    "x-request-id": "mine-1",
    "x-litellm-tags": " a, b ,,c",
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    tracestate: "v=1",
  });
  const caller = door.gateway.calls.at(-1)?.caller;
  assert.equal(caller?.requestId, "mine-1");
  assert.deepEqual(caller?.tags, ["a", "b", "c"]);
  assert.equal(caller?.door, "openai");
  assert.equal(caller?.route, "/v1/chat/completions");
  assert.equal(caller?.traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  assert.equal(caller?.tracestate, "v=1");
});

test("the key is taken from the first of its places", async () => {
  const all = {
    "x-litellm-api-key": "Bearer sk-1",
    authorization: "Bearer sk-2",
    "api-key": "sk-3",
    "x-api-key": "sk-4",
  };
  const seen: (string | undefined)[] = [];
  for (const names of [Object.keys(all), ["authorization", "api-key"], ["api-key", "x-api-key"], ["x-api-key"], []]) {
    const headers = Object.fromEntries(Object.entries(all).filter(([name]) => names.includes(name)));
    await fetch(`${door.url}/v1/models`, { headers });
    seen.push(door.gateway.modelsToken);
  }
  await fetch(`${door.url}/v1/models`, { headers: { authorization: "Basic c2s6eA==" } });
  assert.deepEqual([...seen, door.gateway.modelsToken], ["sk-1", "sk-2", "sk-3", "sk-4", undefined, undefined]);
});

test("a request id that is not fit for a log is replaced", async () => {
  const response = await fetch(door.url, { headers: { "x-request-id": "a b\tc" } });
  assert.match(response.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
});

test("models are listed and found, slashes and wildcards included", async () => {
  const list = await door.client().models.list();
  assert.deepEqual(
    list.data.map((model) => model.id),
    ["gpt-demo", "openai/*", "team/sub/model"],
  );
  assert.equal((await door.client().models.retrieve("team/sub/model")).id, "team/sub/model");
  const plain = await fetch(`${door.url}/models/openai/gpt-x`);
  assert.deepEqual(await plain.json(), {
    id: "openai/gpt-x",
    object: "model",
    created: 1_677_610_602,
    owned_by: "openai",
  });
  await assert.rejects(door.client().models.retrieve("nope"), OpenAI.NotFoundError);
  assert.equal((await fetch(`${door.url}/v1/models/%zz`)).status, 404);
});

test("health is told in LiteLLM's words", async () => {
  for (const path of ["/health/liveliness", "/health/liveness"]) {
    assert.equal(await (await fetch(door.url + path)).text(), '"I\'m alive!"');
  }
  assert.equal((await fetch(`${door.url}/health/readiness`)).status, 200);
  door.ready = false;
  assert.equal((await fetch(`${door.url}/health/readiness`)).status, 503);
  door.ready = true;
  assert.deepEqual(await (await fetch(door.url)).json(), { name: "tollgate", version: "1.2.3" });
});

test("wrong paths and methods are refused with JSON", async () => {
  const nowhere = await fetch(`${door.url}/v1/nothing`, { method: "POST", body: "x" });
  assert.equal(nowhere.status, 404);
  assert.equal(((await nowhere.json()) as { error: { code: string } }).error.code, "route_not_found");
  assert.ok(nowhere.headers.get("x-request-id"));
  const wrong = await fetch(`${door.url}/v1/chat/completions`);
  assert.equal(wrong.status, 405);
  assert.equal(wrong.headers.get("allow"), "POST, OPTIONS");
  const options = await fetch(`${door.url}/v1/models`, { method: "OPTIONS" });
  assert.deepEqual([options.status, options.headers.get("allow")], [204, "GET, HEAD, OPTIONS"]);
  const head = await fetch(`${door.url}/v1/models`, { method: "HEAD" });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
});

test("an answer that is booked is sent before the call is told of, and stays one if that fails", async () => {
  let isTold = (): void => {};
  door.gateway.scripts.set("told-late", async function* () {
    yield accepted;
    yield settled('{"id":"booked"}');
    await new Promise<void>((resolve) => {
      isTold = resolve;
    });
    throw new TypeError("late");
  });
  const before = door.bugs.length;
  const answer = await door.post(chatBody("told-late"));
  assert.deepEqual([answer.status, await answer.json()], [200, { id: "booked" }]);
  isTold();
  const untilMs = Date.now() + 5_000;
  while (door.bugs.length === before && Date.now() < untilMs) await new Promise(setImmediate);
  assert.ok(door.bugs.at(-1) instanceof TypeError);
});

test("an answer that has no end is a bug, not an answer", async () => {
  script("endless", neutral.slice(0, -1));
  assert.equal((await door.post(chatBody("endless"))).status, 500);
  const text = await (await door.post(chatBody("endless", { stream: true }))).text();
  assert.match(text, /"code":"internal_error"/);
  assert.doesNotMatch(text, /DONE/);
});
