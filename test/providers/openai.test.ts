import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { CompletionEvent, CompletionRequest } from "../../src/completion.ts";
import type { Deployment } from "../../src/config/config.ts";
import { GatewayError, ProviderFailure } from "../../src/errors.ts";
import { EntraTokenStore } from "../../src/providers/entra-token.ts";
import { ProviderHttp } from "../../src/providers/http.ts";
import { HttpProvider } from "../../src/providers/http-provider.ts";
import { openAiDialect } from "../../src/providers/openai.ts";
import type { ProviderCall } from "../../src/providers/provider.ts";
import { Secret } from "../../src/secret.ts";
import { all, neutralRequest, sampleDeployment, sampleRequest } from "../sample-call.ts";
import { chunk, inputTokens, sendJson, Upstream, words } from "../upstream.ts";

const signal = new AbortController().signal;
const timeoutsOf = (timeoutMs = 5_000) => ({ timeoutMs, idleTimeoutMs: timeoutMs });

describe("a provider that speaks OpenAI's wire", () => {
  let upstream: Upstream;
  let http: ProviderHttp;
  let provider: HttpProvider;
  before(async () => {
    upstream = await Upstream.start();
  });
  after(() => upstream.close());
  beforeEach(() => {
    http = new ProviderHttp({ clock: systemClock });
    provider = new HttpProvider({
      http,
      clock: systemClock,
      dialect: openAiDialect({ tokens: new EntraTokenStore({ http, clock: systemClock }) }),
    });
  });
  afterEach(() => http.close());

  const complete = (
    request: CompletionRequest,
    facts: Partial<Deployment> = {},
    others: Partial<ProviderCall> = {},
  ): AsyncGenerator<CompletionEvent> =>
    provider.complete({
      request,
      deployment: sampleDeployment({ apiBase: upstream.baseUrl, model: request.model, ...facts }),
      outputTokensMax: undefined,
      traceparent: undefined,
      ...timeoutsOf(request.stream ? facts.streamTimeoutMs : facts.timeoutMs),
      signal,
      ...others,
    });
  const failureOf = async (...args: Parameters<typeof complete>): Promise<GatewayError> => {
    try {
      await all(complete(...args));
    } catch (error) {
      assert.ok(error instanceof GatewayError, String(error));
      return error;
    }
    throw new Error("it did not fail");
  };
  /** Answers all calls of a model by hand. */
  const script = (model: string, answer: (res: ServerResponse) => void) =>
    void upstream.scripts.set(model, (_call, res) => answer(res));

  test("a whole answer passes as the bytes that came", async () => {
    const bytes = `{ "id":"r1", "choices" : [ ], "usage":{"prompt_tokens":3,"completion_tokens":4}, "odd": 1e5 }\n`;
    script("bytes", (res) => res.writeHead(200, { "content-type": "application/json" }).end(bytes));
    const events = await all(complete(sampleRequest({ model: "bytes" })));
    assert.equal(events.length, 1);
    const [end] = events;
    assert.ok(end?.type === "end");
    assert.equal(end.raw?.toString(), bytes);
    assert.equal(end.usage?.inputTokens, 3);
    assert.equal(end.responseId, "r1");
  });

  test("a stream passes as the bytes that came, but for the usage nobody asked for", async () => {
    const request = sampleRequest({ model: "ok", stream: true });
    const events = await all(complete(request));
    const sent = upstream.calls.at(-1);
    assert.equal(JSON.parse(sent?.body ?? "").stream_options.include_usage, true, "we need it for the bill");
    const bytes = events.map((event) => (event.type === "raw" ? event.bytes : Buffer.alloc(0)));
    const body = { model: "ok", stream: true };
    const expected = [
      chunk(body, { role: "assistant", content: "" }),
      ...words.map((word) => chunk(body, { content: word })),
      chunk(body, {}, "stop"),
    ];
    assert.equal(Buffer.concat(bytes).toString(), expected.join(""));
    const end = events.at(-1);
    assert.ok(end?.type === "end");
    assert.equal(end.raw?.toString(), "data: [DONE]\n\n");
    assert.equal(end.usage?.outputTokens, words.length);
  });

  test("callers without that wire get neutral events, whole and streamed", async () => {
    for (const stream of [false, true]) {
      const events = await all(complete({ ...neutralRequest({ model: "ok" }), stream }));
      assert.equal(events[0]?.type, "start");
      const text = events.map((event) => (event.type === "delta" ? (event.text ?? "") : "")).join("");
      assert.equal(text, words.join(""));
      const end = events.at(-1);
      assert.ok(end?.type === "end");
      assert.equal(end.usage?.inputTokens, inputTokens);
      assert.equal(end.raw, undefined);
    }
  });

  test("a whole answer without usage is counted roughly", async () => {
    const choices = [{ index: 0, message: { content: "x".repeat(400) }, finish_reason: "stop" }];
    script("uncounted", (res) => sendJson(res, 200, { choices }));
    const [end] = await all(complete(sampleRequest({ model: "uncounted" })));
    assert.ok(end?.type === "end");
    assert.equal(end.usage, undefined);
    assert.equal(end.outputTokens, 100);
  });

  test("the request carries the deployment's key, headers and cap, and nothing else of anybody's", async () => {
    const facts = { apiKey: new Secret("sk-up"), headers: { "X-Team": "blue", "Content-Type": "text/plain" } };
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await all(complete(sampleRequest({ model: "ok" }), facts, { outputTokensMax: 9, traceparent }));
    const { host: _, connection: __, "content-length": ___, ...headers } = upstream.calls.at(-1)?.headers ?? {};
    assert.deepEqual(headers, {
      authorization: "Bearer sk-up",
      "x-team": "blue",
      "content-type": "application/json",
      accept: "application/json",
      "accept-encoding": "identity",
      traceparent,
    });
    assert.equal(JSON.parse(upstream.calls.at(-1)?.body ?? "").max_tokens, 9);
  });

  test("an operator's own authorization header goes before the key, whatever its case", async () => {
    const facts = { apiKey: new Secret("sk-up"), headers: { Authorization: "Basic abc" } };
    await all(complete(sampleRequest({ model: "ok" }), facts));
    assert.equal(upstream.calls.at(-1)?.headers.authorization, "Basic abc");
  });

  describe("fails by its status", () => {
    const classes: readonly [number, object, string][] = [
      [400, { message: "temperature must be at most 2" }, "provider_rejected"],
      [400, { message: "This model's maximum context length is 10" }, "context_length_exceeded"],
      [400, { message: "x", code: "content_filter" }, "content_policy_violation"],
      [401, { message: "no" }, "provider_auth_failed"],
      [402, { message: "pay" }, "provider_auth_failed"],
      [403, { message: "no" }, "provider_auth_failed"],
      [404, { message: "no" }, "provider_model_not_found"],
      [408, { message: "late" }, "provider_timeout"],
      [413, { message: "prompt is too long" }, "context_length_exceeded"],
      [422, { message: "no" }, "provider_rejected"],
      [429, { message: "slow" }, "provider_rate_limited"],
      [500, { message: "boom" }, "provider_error"],
      [502, { message: "boom" }, "provider_error"],
      [503, { message: "busy" }, "provider_unavailable"],
      [504, { message: "late" }, "provider_timeout"],
      [529, { message: "overloaded" }, "provider_unavailable"],
      [307, { message: "elsewhere" }, "provider_error"],
      [204, {}, "provider_error"],
    ];
    for (const [status, error, code] of classes) {
      test(`${status} ${JSON.stringify(error)} is ${code}, and not charged`, async () => {
        script("status", (res) => sendJson(res, status, { error }, { location: "http://127.0.0.1:1/" }));
        const failure = await failureOf(sampleRequest({ model: "status" }));
        assert.equal(failure.code, code);
        assert.ok(failure instanceof ProviderFailure && !failure.billable);
      });
    }

    test("and callers see its words only where they are to blame, without credentials", async () => {
      const say = async (status: number) => {
        const error = { message: "no good: sk-live-abcdef123456" };
        script("says", (res) => sendJson(res, status, { error }));
        return (await failureOf(sampleRequest({ model: "says" }))).message;
      };
      assert.equal(await say(400), "no good: [secret]");
      for (const status of [401, 404, 429, 500, 503]) assert.doesNotMatch(await say(status), /no good/, String(status));
    });

    for (const [headers, expected] of [
      [{ "retry-after-ms": "1500", "retry-after": "9" }, [1500, 1500]],
      [{ "retry-after": "2" }, [2000, 2000]],
      [{ "retry-after": new Date(Date.now() + 60_000).toUTCString() }, [50_000, 60_000]],
      [{ "retry-after": new Date(Date.now() - 60_000).toUTCString() }, [0, 0]],
    ] as const) {
      test(`and its wait is read from ${JSON.stringify(Object.keys(headers))}`, async () => {
        script("wait", (res) => sendJson(res, 429, {}, headers));
        const { retryAfterMs = -1 } = (await failureOf(sampleRequest({ model: "wait" }))).facts;
        assert.ok(retryAfterMs >= expected[0] && retryAfterMs <= expected[1], String(retryAfterMs));
      });
    }

    for (const odd of ["", "soon", "-5", "Infinity"]) {
      test(`and "${odd}" is no wait`, async () => {
        script("odd-wait", (res) => sendJson(res, 429, {}, { "retry-after": odd, "retry-after-ms": odd }));
        assert.equal((await failureOf(sampleRequest({ model: "odd-wait" }))).facts.retryAfterMs, undefined);
      });
    }

    test("and an endless error page is not read to its end", async () => {
      let written = 0;
      script("endless", (res) => {
        res.writeHead(500, { "content-type": "text/html" });
        const write = () => {
          if (res.destroyed) return;
          written += 65_536;
          res.write(Buffer.alloc(65_536, "x"));
          setImmediate(write);
        };
        write();
      });
      assert.equal((await failureOf(sampleRequest({ model: "endless" }))).code, "provider_error");
      assert.ok(written < 64 * 1024 * 1024);
    });
  });

  describe("fails with status 200", () => {
    const html = (res: ServerResponse) => void res.writeHead(200, { "content-type": "text/html" }).end("<html>");
    const oddities: readonly [string, (res: ServerResponse) => void, string, boolean][] = [
      ["HTML", html, "provider_error", false],
      ["an error in JSON", (res) => sendJson(res, 200, { error: { message: "overloaded" } }), "provider_error", false],
      ["JSON that is no completion", (res) => sendJson(res, 200, { fine: true }), "provider_error", true],
      [
        "JSON that is cut",
        (res) => void res.writeHead(200, { "content-type": "application/json" }).end('{"id":'),
        "provider_error",
        true,
      ],
      ["a compressed answer", (res) => sendJson(res, 200, {}, { "content-encoding": "gzip" }), "provider_error", true],
    ];
    for (const [name, answer, code, billable] of oddities) {
      test(`${name}: ${code}, ${billable ? "" : "not "}charged`, async () => {
        script("odd", answer);
        const failure = await failureOf(sampleRequest({ model: "odd" }));
        assert.equal(failure.code, code);
        assert.equal(failure instanceof ProviderFailure ? failure.billable : true, billable);
      });
    }

    test("HTML in place of a stream", async () => {
      assert.equal((await failureOf(sampleRequest({ model: "html", stream: true }))).code, "provider_error");
    });

    for (const [name, frames, code] of [
      ["nothing", "", "provider_error"],
      ["text that is no JSON", "data: hello\n\n", "provider_error"],
      ["an endless line", `data: ${"x".repeat(3 * 1024 * 1024)}`, "provider_error"],
      ["an error", 'data: {"error":{"message":"no","type":"server_error"}}\n\n', "provider_error"],
      ["half a completion", 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n', "stream_interrupted"],
    ] as const) {
      test(`a stream of ${name}: ${code}`, async () => {
        script("odd-stream", (res) => {
          res.on("error", () => {});
          res.writeHead(200, { "content-type": "text/event-stream" }).end(frames);
        });
        assert.equal((await failureOf(sampleRequest({ model: "odd-stream", stream: true }))).code, code);
      });
    }

    test("cut in the middle: what came is given out first, then it is interrupted", async () => {
      for (const stream of [false, true]) {
        const events: CompletionEvent[] = [];
        await assert.rejects(
          async () => {
            for await (const event of complete(sampleRequest({ model: "cut", stream }))) events.push(event);
          },
          (error) => error instanceof ProviderFailure && error.code === "stream_interrupted" && error.billable,
        );
        assert.equal(events.length, stream ? 1 : 0);
      }
    });

    test("a whole answer without end is given up, not kept", async () => {
      let sent = 0;
      script("huge", (res) => {
        res.writeHead(200, { "content-type": "application/json" });
        res.on("error", () => {});
        const write = () => {
          while (!res.destroyed) {
            sent += 1024 * 1024;
            if (!res.write(Buffer.alloc(1024 * 1024, " "))) return void res.once("drain", write);
          }
        };
        write();
      });
      const failure = await failureOf(sampleRequest({ model: "huge" }));
      assert.match(failure.message, /larger than the gateway takes/);
      assert.ok(sent < 100 * 1024 * 1024);
    });
  });

  describe("that cannot be reached, or is too slow", () => {
    test("a refused connection is not charged", async () => {
      const failure = await failureOf(sampleRequest({ model: "ok" }), { apiBase: "http://127.0.0.1:1/v1" });
      assert.equal(failure.code, "provider_unavailable");
      assert.ok(failure instanceof ProviderFailure && !failure.billable);
    });

    test("no head in time is a timeout, and may be charged", async () => {
      for (const stream of [false, true]) {
        const failure = await failureOf(sampleRequest({ model: "silent", stream }), {
          timeoutMs: 300,
          streamTimeoutMs: 300,
        });
        assert.equal(failure.code, "provider_timeout");
        assert.ok(failure instanceof ProviderFailure && failure.billable);
      }
    });

    test("a body that drips is a timeout once the whole call takes too long", async () => {
      script("drips", (res) => {
        res.writeHead(200, { "content-type": "application/json" });
        const timer = setInterval(() => res.write(" "), 50);
        res.on("close", () => clearInterval(timer));
      });
      const started = performance.now();
      const failure = await failureOf(sampleRequest({ model: "drips" }), { timeoutMs: 400 });
      assert.equal(failure.code, "provider_timeout");
      assert.ok(performance.now() - started < 900);
    });

    test("a stream that falls silent is a timeout", async () => {
      script("falls-silent", (res) => {
        res.writeHead(200, { "content-type": "text/event-stream" });
        res.write(chunk({ model: "m" }, { content: "a" }));
      });
      const failure = await failureOf(sampleRequest({ model: "falls-silent", stream: true }), { streamTimeoutMs: 300 });
      assert.equal(failure.code, "provider_timeout");
    });
  });

  describe("and a caller that goes away", () => {
    const frees = async (
      model: string,
      leave: (events: AsyncGenerator<CompletionEvent>, abort: AbortController) => Promise<void>,
    ) => {
      const abort = new AbortController();
      await leave(complete(sampleRequest({ model, stream: true }), {}, { signal: abort.signal }), abort);
      const call = upstream.calls.at(-1);
      for (let waitedMs = 0; call?.aborted !== true && waitedMs < 1_000; waitedMs += 20) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.equal(call?.aborted, true, "the upstream call ends within a second");
    };

    test("before the head", () =>
      frees("silent", async (events, abort) => {
        setTimeout(() => abort.abort(new Error("gone")), 100);
        await assert.rejects(events.next(), (error) => error instanceof ProviderFailure && error.billable);
      }));

    test("in the middle of the stream, by aborting", () =>
      frees("slow", async (events, abort) => {
        await events.next();
        abort.abort(new Error("gone"));
        await assert.rejects(all(events));
      }));

    test("in the middle of the stream, by reading no further", () =>
      frees("slow", async (events) => {
        await events.next();
        await events.return(undefined);
      }));
  });
});

describe("connections to a provider", () => {
  let server: Server;
  let sockets: Set<Socket>;
  let open: number;
  let http: ProviderHttp;
  let provider: HttpProvider;
  let answer: (req: IncomingMessage, res: ServerResponse) => void;
  beforeEach(async () => {
    sockets = new Set();
    open = 0;
    http = new ProviderHttp({ clock: systemClock });
    provider = new HttpProvider({
      http,
      clock: systemClock,
      dialect: openAiDialect({ tokens: new EntraTokenStore({ http, clock: systemClock }) }),
    });
    server = createServer((req, res) => {
      req.resume().on("end", () => answer(req, res));
    });
    server.on("connection", (socket) => {
      sockets.add(socket);
      open++;
      socket.on("close", () => open--);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  afterEach(async () => {
    await http.close();
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });

  /** Makes a call as the gateway does: it does not come back after the last event. */
  const call = async (fields: object): Promise<string> => {
    const apiBase = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const parts = { outputTokensMax: undefined, traceparent: undefined, signal, ...timeoutsOf() };
    const deployment = sampleDeployment({ apiBase });
    try {
      for await (const event of provider.complete({ request: sampleRequest(fields), deployment, ...parts })) {
        if (event.type === "end") return "ok";
      }
    } catch (error) {
      return error instanceof GatewayError ? error.code : String(error);
    }
    return "no end";
  };
  const tick = () => new Promise((resolve) => setTimeout(resolve, 30));
  const whole = `${chunk({ model: "m" }, { content: "a" }, "stop")}data: [DONE]\n\n`;

  test("are used again after whole answers, streams and errors", async () => {
    const thrice = async (fields: object, expected: string) => {
      for (let count = 0; count < 3; count++) {
        assert.equal(await call(fields), expected);
        await tick();
      }
      assert.equal(sockets.size, 1, expected);
    };
    answer = (_req, res) => sendJson(res, 200, { choices: [] });
    await thrice({}, "ok");
    answer = (_req, res) => void res.writeHead(200, { "content-type": "text/event-stream" }).end(whole);
    await thrice({ stream: true }, "ok");
    answer = (_req, res) => sendJson(res, 429, { error: { message: "slow" } });
    await thrice({}, "provider_rate_limited");
  });

  test("are used again when the end of the body comes a moment after [DONE]", async () => {
    answer = (_req, res) => {
      res.writeHead(200, { "content-type": "text/event-stream" }).write(whole);
      setTimeout(() => res.end(), 20);
    };
    for (let count = 0; count < 3; count++) {
      assert.equal(await call({ stream: true }), "ok");
      await new Promise((resolve) => setTimeout(resolve, 60));
    }
    assert.equal(sockets.size, 1);
  });

  test("are closed when a provider does not end its answer after [DONE], or goes on", async () => {
    answer = (_req, res) => void res.writeHead(200, { "content-type": "text/event-stream" }).write(whole);
    assert.equal(await call({ stream: true }), "ok");
    for (let waitedMs = 0; open > 0 && waitedMs < 2_000; waitedMs += 50) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.equal(open, 0);
  });

  test("are closed after a page of HTML", async () => {
    answer = (_req, res) => void res.writeHead(200, { "content-type": "text/html" }).write("<html>");
    assert.equal(await call({}), "provider_error");
    await tick();
    assert.equal(open, 0);
  });
});
