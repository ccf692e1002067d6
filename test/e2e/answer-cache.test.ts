import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createCompletionClient, Role } from "../../src/client.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { inputTokens, type Script, sendJson, words } from "../upstream.ts";
import { masterKey, Stack } from "./stack.ts";

const costNanos = BigInt(inputTokens * 1_000 + words.length * 2_000);
const redisTimeoutMs = 300;

let question = 0;
/** A conversation nobody has had yet. */
function anew(): { messages: { role: "user"; content: string }[] } {
  return { messages: [{ role: "user", content: `question ${question++}` }] };
}

function cacheOf(answer: Response): [string | null, string | null] {
  return [answer.headers.get("x-tollgate-cache"), answer.headers.get("x-litellm-response-cost")];
}

describe("kept answers, in Redis, at both doors of two sidecars", () => {
  let redis: RedisServer;
  let stack: Stack;
  /** How the upstream answers for "ok", unless a test says otherwise. */
  let ok: Script;
  before(async () => {
    redis = await startRedis();
    stack = await Stack.start({
      sidecars: 2,
      env: { TOLLGATE_REDIS_TIMEOUT_MS: String(redisTimeoutMs) },
      config: `litellm_settings:\n  cache: true\n  cache_params: { type: redis, host: ${redis.host}, port: ${redis.port}, ttl: 600 }\n`,
    });
    const script = stack.upstream.scripts.get("ok");
    assert.ok(script);
    ok = script;
  });
  after(async () => {
    await stack?.close();
    await redis?.stop();
  });

  function post(sidecar: number, key: string, fields: object, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${stack.sidecars[sidecar]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
      body: JSON.stringify({ model: "ok", ...fields }),
    });
  }

  /** How many calls the upstream got while something happened. */
  async function upstreamCalls(act: () => Promise<unknown>): Promise<number> {
    const before = stack.upstream.calls.length;
    await act();
    return stack.upstream.calls.length - before;
  }

  const rpc = (sidecar: number, key: string) =>
    createCompletionClient({ apiKey: key, baseUrl: stack.sidecars[sidecar]?.url ?? "", retries: 0 });

  const typed = ({ messages }: ReturnType<typeof anew>) => ({
    chat: { model: "ok", messages: messages.map(({ content }) => ({ role: Role.USER, text: content })) },
  });

  /** Waits until an answer is kept: it is written after it was given. */
  async function kept(sidecar: number, key: string, fields: object): Promise<Response> {
    for (let tries = 0; ; tries++) {
      const answer = await post(sidecar, key, { ...fields, cache: { "no-store": true } });
      if (cacheOf(answer)[0] === "hit" || tries > 50) return answer;
      await answer.arrayBuffer();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  test("an answer made by one is given again by the other, byte for byte, to another key, for nothing", async () => {
    const [key, other] = [await stack.generateKey({ max_budget: 1 }), await stack.generateKey({ max_budget: 1 })];
    const fields = anew();
    const first = await post(0, key, fields);
    assert.deepEqual(cacheOf(first), ["miss", "0.000024"]);
    const second = await kept(1, other, fields);
    assert.deepEqual(cacheOf(second), ["hit", "0"]);
    assert.equal(second.headers.get("x-litellm-cache-key"), first.headers.get("x-litellm-cache-key"));
    assert.match(String(first.headers.get("x-litellm-cache-key")), /^[0-9a-f]{64}$/);
    assert.equal(await second.text(), await first.text());
    const [made] = await stack.booked(key, 1);
    assert.deepEqual([made?.cost_nanos, made?.cache_hit], [String(costNanos), false]);
    const rows = await stack.booked(other, 1);
    const hit = rows.find((row) => row.cache_hit);
    assert.deepEqual(
      [hit?.cost_nanos, hit?.status, hit?.model_group, hit?.model, hit?.output_tokens],
      ["0", "success", "ok", "ok", String(words.length)],
    );
    const { body } = await stack.admin("GET", `/spend/logs?api_key=${other}`);
    const logged = body as unknown as { cache_hit: string; spend: number; total_tokens: number }[];
    const [row] = logged.filter(({ cache_hit }) => cache_hit === "True");
    assert.deepEqual([row?.spend, row?.total_tokens], [0, inputTokens + words.length]);
    assert.deepEqual((await stack.spent(key)).spent, costNanos);
  });

  test("`cache` never reaches the provider", async () => {
    const key = await stack.generateKey();
    await post(0, key, { ...anew(), cache: { ttl: 60, namespace: "n" } });
    assert.ok(!stack.upstream.calls.at(-1)?.body.includes("cache"), stack.upstream.calls.at(-1)?.body);
  });

  test("no-cache makes a new answer, no-store keeps none, ttl ends, a namespace is another place", async () => {
    const key = await stack.generateKey();
    const fields = anew();
    const state = async (more: object, headers: Record<string, string> = {}) => {
      const answer = await post(0, key, { ...fields, ...more }, headers);
      await answer.arrayBuffer();
      await new Promise((resolve) => setTimeout(resolve, 50));
      return cacheOf(answer)[0];
    };
    assert.equal(await state({ cache: { "no-store": true } }), "miss");
    assert.equal(await state({}, { "cache-control": "no-store" }), "miss");
    assert.equal(await state({ cache: { ttl: 1 } }), "miss");
    assert.equal(await state({}), "hit");
    assert.equal(await state({ cache: { "no-cache": true, ttl: 1 } }), "miss");
    assert.equal(await state({ cache: { "s-maxage": 60 } }), "hit");
    assert.equal(await state({ cache: { namespace: "a" } }), "miss");
    assert.equal(await state({ cache: { namespace: "a" } }), "hit");
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    assert.equal(await state({ cache: { "no-store": true } }), "miss", "the second is over");
    assert.equal(await state({ cache: { "no-cache": true, "no-store": true } }), null, "neither: not the cache's");
    assert.equal(await state({ cache: { namespace: "a" } }), "hit");
    assert.equal(await state({ cache: { namespace: "a" } }, { "cache-control": "no-cache" }), "miss");
  });

  test("a key may set what its allowed_cache_controls name, and what is wrong is refused", async () => {
    const key = await stack.generateKey({ allowed_cache_controls: ["no-cache"] });
    const refused = await post(0, key, { ...anew(), cache: { ttl: 5 } });
    const { error } = (await refused.json()) as { error: { code: string; param: string } };
    assert.deepEqual([refused.status, error.code, error.param], [403, "permission_denied", "cache.ttl"]);
    assert.equal((await post(0, key, { ...anew(), cache: { "no-cache": true } })).status, 200);
    assert.equal((await post(0, await stack.generateKey(), { ...anew(), cache: { ttl: -1 } })).status, 400);
  });

  test("a key that may not use the model gets no answer that is kept for it", async () => {
    const fields = anew();
    const key = await stack.generateKey();
    await post(0, key, fields);
    assert.equal(cacheOf(await kept(0, key, fields))[0], "hit");
    const blind = await stack.generateKey({ models: ["slow"] });
    assert.equal((await post(0, blind, fields)).status, 403);
    await assert.rejects(rpc(0, blind).complete(typed(fields)), /model/);
  });

  test("a stream is given again frame by frame, with and without its usage", async () => {
    const key = await stack.generateKey();
    for (const options of [{}, { stream_options: { include_usage: true } }]) {
      const fields = { ...anew(), stream: true, ...options };
      const first = await (await post(0, key, fields)).text();
      const second = await kept(1, key, fields);
      assert.deepEqual(cacheOf(second), ["hit", "0"]);
      assert.equal(second.headers.get("content-type"), "text/event-stream; charset=utf-8");
      assert.equal(await second.text(), first);
      assert.equal(first.includes('"usage"'), "stream_options" in options);
    }
  });

  test("a whole answer is given as a stream, a stream as a whole answer, and one with usage as one without", async () => {
    const key = await stack.generateKey();
    const usage = { stream_options: { include_usage: true } };
    const forms = [{}, { stream: true }, { stream: true, ...usage }];
    for (const made of forms) {
      for (const wanted of forms.filter((form) => form !== made)) {
        const fields = anew();
        await (await post(0, key, { ...fields, ...made })).text();
        const again = await kept(0, key, { ...fields, ...wanted });
        assert.equal(cacheOf(again)[0], "hit");
        const text = await again.text();
        assert.deepEqual(readText(text), {
          content: words.join(""),
          usage: wanted === forms[1] ? undefined : words.length,
        });
      }
    }
  });

  test("what cannot be said as a stream is made anew", async () => {
    stack.upstream.scripts.set("ok", withAudio);
    try {
      const key = await stack.generateKey();
      const fields = { ...anew(), modalities: ["text", "audio"] };
      await post(0, key, fields);
      assert.equal(cacheOf(await kept(0, key, fields))[0], "hit");
      assert.equal(cacheOf(await post(0, key, { ...fields, stream: true }))[0], "miss");
    } finally {
      stack.upstream.scripts.set("ok", ok);
    }
  });

  test("the RPC door keeps answers too, whole and streamed, in its own right", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    const fields = anew();
    const heads: Headers[] = [];
    const onHeader = (head: Headers) => void heads.push(head);
    const calls = await upstreamCalls(async () => {
      const first = await rpc(0, key).complete(typed(fields), { onHeader });
      let text = "";
      await new Promise((resolve) => setTimeout(resolve, 100));
      for await (const { event } of rpc(1, key).streamComplete(typed(fields), { onHeader })) {
        if (event.case === "delta") text += event.value.text;
        if (event.case === "ended") assert.equal(event.value.call?.costUsd, "0");
      }
      assert.equal(text, words.join(""));
      const second = await rpc(1, key).complete(typed(fields), { onHeader });
      assert.deepEqual(second.choices, first.choices);
      assert.deepEqual(second.usage, first.usage);
      assert.equal(second.call?.costUsd, "0");
    });
    assert.equal(calls, 1);
    assert.deepEqual(
      heads.map((head) => head.get("x-tollgate-cache")),
      ["miss", "hit", "hit"],
    );
    assert.equal(cacheOf(await post(0, key, fields))[0], "miss", "bytes of a wire are kept apart");
    assert.equal((await stack.booked(key, 4)).length, 4);
    assert.equal((await stack.spent(key)).spent, 2n * costNanos);
  });

  test("50 equal calls at once are one call of the provider, at the price of one", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    const gate = Promise.withResolvers<void>();
    stack.upstream.scripts.set("ok", async (...call) => {
      await gate.promise;
      await ok(...call);
    });
    try {
      const fields = anew();
      const mixed = (index: number) => ({ ...fields, ...(index % 2 === 0 ? {} : { stream: true }) });
      const calls = await upstreamCalls(async () => {
        const answers = Promise.all(Array.from({ length: 50 }, (_, index) => post(0, key, mixed(index))));
        await new Promise((resolve) => setTimeout(resolve, 500));
        gate.resolve();
        const texts = await Promise.all((await answers).map((answer) => answer.text()));
        assert.ok(texts.every((text) => readText(text).content === words.join("")));
        const states = (await answers).map((answer) => cacheOf(answer)[0]);
        assert.equal(states.filter((state) => state === "hit").length, 49);
      });
      assert.equal(calls, 1);
      const rows = await stack.booked(key, 50);
      assert.equal(rows.filter((row) => row.cache_hit).length, 49);
      assert.equal((await stack.spent(key)).spent, costNanos);
    } finally {
      gate.resolve();
      stack.upstream.scripts.set("ok", ok);
    }
  });

  test("when the first of them leaves, the others are answered all the same", async () => {
    const key = await stack.generateKey();
    const fields = anew();
    const leave = new AbortController();
    let begun = 0;
    stack.upstream.scripts.set("ok", (...call) => {
      // The first is never answered.
      if (begun++ > 0) return ok(...call);
    });
    try {
      const leader = fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: JSON.stringify({ model: "ok", ...fields }),
        signal: leave.signal,
      }).catch(() => "gone");
      while (begun === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      const answers = Promise.all(Array.from({ length: 10 }, () => post(0, key, fields)));
      await new Promise((resolve) => setTimeout(resolve, 200));
      assert.equal(begun, 1);
      leave.abort();
      assert.equal(await leader, "gone");
      assert.deepEqual(new Set((await answers).map(({ status }) => status)), new Set([200]));
      assert.equal(begun, 2);
    } finally {
      stack.upstream.scripts.set("ok", ok);
    }
  });

  test("answers that break off or fail are not kept", async () => {
    const key = await stack.generateKey();
    for (const fields of [
      { model: "cut", stream: true },
      { model: "short", stream: true },
      { model: "error-event", stream: true },
      { model: "down" },
    ]) {
      const { messages } = anew();
      for (let tries = 0; tries < 2; tries++) {
        const calls = await upstreamCalls(async () => (await post(0, key, { messages, ...fields })).text());
        assert.equal(calls, 1, fields.model);
      }
    }
  });

  test("the master key pings, deletes and flushes, and nobody else", async () => {
    const key = await stack.generateKey();
    const admin = async (method: string, path: string, token: string, body?: object) => {
      const answer = await fetch(stack.sidecars[0]?.url + path, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return [answer.status, (await answer.json()) as Record<string, unknown>] as const;
    };
    const [status, pong] = await admin("GET", "/cache/ping", masterKey);
    assert.deepEqual([status, pong.status, pong.cache_type, pong.ping_response], [200, "healthy", "redis", true]);
    for (const [method, path] of [
      ["GET", "/cache/ping"],
      ["POST", "/cache/delete"],
      ["POST", "/cache/flushall"],
    ] as const) {
      assert.equal((await admin(method, path, key))[0], 403, path);
    }
    const [one, two] = [anew(), anew()];
    for (const fields of [one, two]) await post(0, key, fields);
    const cacheKey = (await kept(0, key, one)).headers.get("x-litellm-cache-key");
    await kept(0, key, two);
    assert.deepEqual(await admin("POST", "/cache/delete", masterKey, { keys: [cacheKey] }), [
      200,
      { status: "success" },
    ]);
    assert.equal(cacheOf(await post(0, key, { ...one, cache: { "no-store": true } }))[0], "miss");
    assert.equal(cacheOf(await post(0, key, two))[0], "hit");
    assert.equal((await admin("POST", "/cache/delete", masterKey, { keys: [] }))[0], 400);
    assert.deepEqual(await admin("POST", "/cache/flushall", masterKey), [200, { status: "success" }]);
    assert.equal(cacheOf(await post(1, key, { ...two, cache: { "no-store": true } }))[0], "miss");
  });

  test("a Redis that freezes or dies fails no call, and slows only the first", async () => {
    const key = await stack.generateKey();
    const fields = anew();
    await post(0, key, fields);
    assert.equal(cacheOf(await kept(0, key, fields))[0], "hit");
    redis.kill("SIGSTOP");
    const times: number[] = [];
    for (let call = 0; call < 12; call++) {
      const before = performance.now();
      const answer = await post(0, key, fields);
      await answer.text();
      times.push(performance.now() - before);
      assert.deepEqual([answer.status, cacheOf(answer)[0]], [200, "miss"]);
    }
    assert.ok(Math.max(...times) < redisTimeoutMs + 300, `slowest ${Math.max(...times)} ms`);
    const late = times.slice(-4);
    assert.ok(Math.min(...late) < redisTimeoutMs / 2, `not waited for any more: ${late} ms`);
    redis.kill("SIGCONT");
    assert.equal(cacheOf(await kept(0, key, fields))[0], "hit", "and is asked again when it is back");
    await redis.stop();
    for (let call = 0; call < 5; call++) assert.equal((await post(0, key, fields)).status, 200);
    const ping = await fetch(`${stack.sidecars[0]?.url}/cache/ping`, {
      headers: { authorization: `Bearer ${masterKey}` },
    });
    assert.equal(ping.status, 503);
  });
});

describe("kept answers, in the process, for calls that ask for it, within a team", () => {
  let stack: Stack;
  before(async () => {
    const settings = "litellm_settings:\n  cache: true\n  cache_params: { type: local, mode: default_off, ttl: 1 }\n";
    stack = await Stack.start({ sidecars: 1, config: `${settings}tollgate: { cache_sharing: team }\n` });
  });
  after(() => stack?.close());

  test("are given to keys of the same team, until their time is over", async () => {
    const [team, otherTeam] = await Promise.all(
      ["one", "two"].map(async (team_alias) => (await stack.admin("POST", "/team/new", { team_alias })).body.team_id),
    );
    const keys = await Promise.all(
      [{ team_id: team }, { team_id: team }, { team_id: otherTeam }, {}].map((fields) => stack.generateKey(fields)),
    );
    const fields = { ...anew(), cache: { "use-cache": true } };
    const states: unknown[] = [];
    for (const key of keys) states.push(cacheOf(await stack.chat(0, key, fields))[0]);
    assert.deepEqual(states, ["miss", "hit", "miss", "miss"]);
    const [key = ""] = keys;
    assert.equal(cacheOf(await stack.chat(0, key, { ...fields, cache: {} }))[0], null);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    assert.equal(cacheOf(await stack.chat(0, key, fields))[0], "miss");
    const ready = await (await fetch(`${stack.sidecars[0]?.url}/health/readiness`)).json();
    assert.equal((ready as { cache: string }).cache, "local");
    const metrics = await (await fetch(`${stack.sidecars[0]?.adminUrl}/metrics`)).text();
    assert.match(metrics, /^tollgate_cache_hits_total 1$/m);
    assert.match(metrics, /^tollgate_cache_misses_total 4$/m);
  });
});

/** What an OpenAI client reads of an answer, whole or streamed. */
function readText(text: string): { content: string; usage: number | undefined } {
  const frames = text.startsWith("data: ")
    ? text.split("\n\n").flatMap((frame) => (/^data: \{/.test(frame) ? [JSON.parse(frame.slice(6))] : []))
    : [JSON.parse(text)];
  let content = "";
  let usage: number | undefined;
  for (const { choices, usage: counted } of frames) {
    content += choices[0]?.message?.content ?? choices[0]?.delta?.content ?? "";
    usage = counted?.completion_tokens ?? usage;
  }
  if (text.startsWith("data: ")) assert.ok(text.endsWith("data: [DONE]\n\n"));
  return { content, usage };
}

/** An answer of which the neutral form has only a part. */
const withAudio: Script = (call, res, request) => {
  const message = { role: "assistant", content: null, audio: { id: "a", data: "UklGRg==", transcript: "Hi" } };
  call.outputTokens = 1;
  if (request.stream === true) {
    res.writeHead(200, { "content-type": "text/event-stream" });
    const frame = { id: "x", choices: [{ index: 0, delta: message, finish_reason: "stop" }] };
    res.end(`data: ${JSON.stringify(frame)}\n\ndata: [DONE]\n\n`);
    return;
  }
  const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
  sendJson(res, 200, { id: "x", model: "ok", choices: [{ index: 0, message, finish_reason: "stop" }], usage });
};
