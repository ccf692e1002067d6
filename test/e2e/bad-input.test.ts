import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import OpenAI, { APIError } from "openai";
import { freePort } from "../free-port.ts";
import { Stack } from "./stack.ts";

interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

describe("bad input gets a clear error of the right shape, and nothing is lost or leaked", () => {
  let stack: Stack;
  let key: string;
  before(async () => {
    const closedPort = await freePort();
    stack = await Stack.start({
      sidecars: 1,
      models: `
  - model_name: closed
    litellm_params:
      model: openai/closed
      api_base: http://127.0.0.1:${closedPort}/v1
      api_key: sk-upstream-secret
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
`,
    });
    key = await stack.generateKey({ max_budget: 5, max_parallel_requests: 3 });
  });
  // Whatever went wrong: no slot and no money stays behind.
  after(async () => {
    try {
      for (let tries = 0; tries < 60 && (await stack.spent(key)).reserved > 0n; tries++) {
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      assert.equal((await stack.spent(key)).reserved, 0n, "money is still reserved");
      const answers = await Promise.all([1, 2, 3].map(() => stack.chat(0, key)));
      assert.deepEqual(
        answers.map(({ status }) => status),
        [200, 200, 200],
        "slots are still held",
      );
    } finally {
      await stack.close();
    }
  });

  const post = (body: string | Buffer, headers: Record<string, string> = {}) =>
    fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
      body: body as BodyInit,
    });

  async function refusal(answer: Response, status: number, code: string): Promise<ErrorBody["error"]> {
    const text = await answer.text();
    assert.equal(answer.status, status, text);
    assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
    assert.ok(answer.headers.get("x-request-id"));
    const { error } = JSON.parse(text) as ErrorBody;
    assert.equal(error.code, code);
    assert.ok(error.message.length > 10);
    assert.doesNotMatch(text, /sk-\w{4,}/, "no credential is quoted");
    return error;
  }

  test("broken JSON", async () => {
    await refusal(await post('{"model": "ok", "messages": [{"role"'), 400, "invalid_json");
  });

  test("invalid UTF-8", async () => {
    await refusal(
      await post(Buffer.from('{"model":"ok","messages":[{"role":"user","content":"\xff\xfe"}]}', "latin1")),
      400,
      "invalid_json",
    );
  });

  test("a missing model", async () => {
    assert.equal(
      (await refusal(await post('{"messages":[{"role":"user","content":"x"}]}'), 400, "invalid_request")).param,
      "model",
    );
  });

  test("an unknown model", async () => {
    const error = await refusal(await stack.chat(0, key, { model: "nobody-has-this" }), 404, "model_not_found");
    assert.match(error.message, /nobody-has-this/);
  });

  test("a body of 40 MB", async () => {
    await refusal(await post(Buffer.alloc(40 * 1024 * 1024, " ")), 413, "body_too_large");
  });

  test("a wrong content type", async () => {
    await refusal(
      await post("model=ok", { "content-type": "application/x-www-form-urlencoded" }),
      415,
      "unsupported_media_type",
    );
  });

  test("no key, a malformed key, an unknown key", async () => {
    await refusal(await post("{}", { authorization: "" }), 400, "invalid_request");
    const chat = JSON.stringify({ model: "ok", messages: [{ role: "user", content: "x" }] });
    await refusal(await post(chat, { authorization: "" }), 401, "missing_api_key");
    await refusal(await post(chat, { authorization: "Bearer 'OR(1=1)--" }), 401, "invalid_api_key");
    await refusal(await post(chat, { authorization: "Bearer sk-nobody-has-this-key" }), 401, "invalid_api_key");
  });

  test("a key of 1 MB", async () => {
    const { hostname, port } = new URL(stack.sidecars[0]?.url ?? "");
    const socket = connect(Number(port), hostname);
    socket.on("error", () => {});
    let answer = "";
    socket.on("data", (piece) => {
      answer += piece;
    });
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-${"k".repeat(1024 * 1024)}\r\n\r\n`,
    );
    await once(socket, "close");
    assert.match(answer, /^HTTP\/1.1 431 /);
    assert.match(answer, /x-request-id: /i);
    assert.ok((JSON.parse(answer.slice(answer.indexOf("\r\n\r\n"))) as ErrorBody).error.message);
  });

  test("a closed provider costs nothing", async () => {
    const answer = await stack.chat(0, key, { model: "closed" });
    const error = await refusal(answer, 503, "provider_unavailable");
    assert.equal(error.type, "provider_error");
    assert.equal((await booked(answer)).cost_nanos, 0n);
  });

  test("a provider that answers HTML, with status 200 and with 502", async () => {
    const answer = await stack.chat(0, key, { model: "html" });
    await refusal(answer, 502, "provider_error");
    assert.equal((await booked(answer)).cost_nanos, 0n);
    await refusal(await stack.chat(0, key, { model: "html", stream: true }), 502, "provider_error");
    await refusal(await stack.chat(0, key, { model: "html-error" }), 502, "provider_error");
  });

  test("a provider that refuses the gateway's key: its own words stay here", async () => {
    await refusal(await stack.chat(0, key, { model: "bad-key" }), 502, "provider_auth_failed");
  });

  test("a provider's verdict on the request is passed on in its words", async () => {
    const error = await refusal(await stack.chat(0, key, { model: "bad-request" }), 400, "provider_rejected");
    assert.match(error.message, /temperature must be at most 2/);
    await refusal(await stack.chat(0, key, { model: "too-long" }), 400, "context_length_exceeded");
    const limited = await stack.chat(0, key, { model: "rate-limited" });
    assert.ok(limited.headers.get("retry-after-ms"));
    await refusal(limited, 429, "provider_rate_limited");
  });

  for (const model of ["cut", "short", "error-event"]) {
    test(`a provider that stops mid-stream (${model}): a typed error after the text, and the books have what came`, async () => {
      const client = new OpenAI({ apiKey: key, baseURL: `${stack.sidecars[0]?.url}/v1`, maxRetries: 0 });
      const { data: stream, response } = await client.chat.completions
        .create({ model, messages: [{ role: "user", content: "x" }], stream: true })
        .withResponse();
      let text = "";
      await assert.rejects(
        async () => {
          for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
        },
        (error) => error instanceof APIError && typeof error.code === "string",
      );
      assert.equal(text, "half a");
      assert.ok((await booked(response)).cost_nanos > 0n, "what was generated is paid for");
    });
  }

  test("a provider that stops in the middle of a body", async () => {
    await refusal(await stack.chat(0, key, { model: "cut" }), 502, "stream_interrupted");
  });

  test("a provider that never answers", async () => {
    const answer = await stack.chat(0, key, { model: "silent" });
    await refusal(answer, 504, "provider_timeout");
    assert.ok((await booked(answer)).cost_nanos > 0n, "it may have generated an answer");
  });

  test("a caller that goes away mid-stream: the upstream call is cancelled within a second, and what came is booked", async () => {
    const abort = new AbortController();
    const answer = await fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "slow", messages: [{ role: "user", content: "x" }], stream: true }),
      signal: abort.signal,
    });
    await answer.body?.getReader().read();
    const call = stack.upstream.calls.at(-1);
    abort.abort();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    assert.equal(call?.aborted, true);
    const row = await booked(answer);
    assert.equal(row.status, "cancelled");
    assert.equal(row.usage_estimated, true);
    assert.ok(row.cost_nanos > 0n);
  });

  test("unknown paths and methods", async () => {
    const url = stack.sidecars[0]?.url;
    await refusal(await fetch(`${url}/v1/nothing-here`), 404, "route_not_found");
    await refusal(await fetch(`${url}/v1/chat/completions`), 405, "method_not_allowed");
  });

  /** What the books say of a call, once they do. */
  async function booked(answer: Pick<Response, "headers">) {
    const callId = answer.headers.get("x-litellm-call-id");
    assert.ok(callId, "the answer names its call");
    const deadlineMs = Date.now() + 10_000;
    for (;;) {
      const { rows } = await stack.database.query<{ status: string; cost_nanos: string; usage_estimated: boolean }>(
        "SELECT status, cost_nanos, usage_estimated FROM spend_log WHERE call_id = $1",
        [callId],
      );
      if (rows[0]) return { ...rows[0], cost_nanos: BigInt(rows[0].cost_nanos) };
      assert.ok(Date.now() < deadlineMs, `call ${callId} is not booked after ten seconds`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
});
