import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../../src/clock.ts";
import type { CompletionEvent, CompletionRequest, EventSink } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { EntraTokenStore } from "../../src/providers/entra-token.ts";
import { ProviderHttp } from "../../src/providers/http.ts";
import { HttpProvider } from "../../src/providers/http-provider.ts";
import { openAiDialect } from "../../src/providers/openai.ts";
import { neutralRequest, sampleDeployment, sampleRequest } from "../sample-call.ts";
import { chunk } from "../upstream.ts";

/** What a call has given, by which way, in order. */
interface Heard {
  readonly event: CompletionEvent;
  readonly way: "iterated" | "poured";
}

describe("a stream with a sink", () => {
  let server: Server;
  let http: ProviderHttp;
  let provider: HttpProvider;
  let answer: (res: ServerResponse) => void;
  beforeEach(async () => {
    http = new ProviderHttp({ clock: systemClock });
    const dialect = openAiDialect({ tokens: new EntraTokenStore({ http, clock: systemClock }) });
    provider = new HttpProvider({ http, clock: systemClock, dialect });
    server = createServer((req, res) => {
      req.resume().on("end", () => answer(res.writeHead(200, { "content-type": "text/event-stream" })));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  afterEach(async () => {
    await http.close();
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });

  /** Makes a call. @param onPoured what the sink answers. @returns what came, and why it ended. */
  async function call(
    request: CompletionRequest,
    onPoured: EventSink = () => undefined,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<{ heard: Heard[]; failure: unknown }> {
    const heard: Heard[] = [];
    const events = provider.complete({
      request,
      deployment: sampleDeployment({ apiBase: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }),
      ...{ outputTokensMax: undefined, traceparent: undefined, timeoutMs: 5_000, idleTimeoutMs: 5_000, signal },
      sink: (event) => {
        heard.push({ event, way: "poured" });
        return onPoured(event);
      },
    });
    try {
      for await (const event of events) heard.push({ event, way: "iterated" });
    } catch (failure) {
      return { heard, failure };
    }
    return { heard, failure: undefined };
  }

  const asBytes = sampleRequest({ stream: true });
  const frame = (content: string) => chunk({ model: "m" }, { content });
  const last = `${chunk({ model: "m" }, {}, "stop")}data: [DONE]\n\n`;
  const bytesOf = (heard: readonly Heard[]) =>
    heard.map(({ event }) => (event.type === "raw" ? event.bytes.toString() : "")).join("");

  it("gives its first event and its last to the iteration, and all between to the sink, in order", async () => {
    answer = async (res) => {
      for (let index = 0; index < 20; index++) {
        res.write(frame(`${index}`));
        if (index % 3 === 0) await sleep(5);
      }
      res.end(last);
    };
    const { heard, failure } = await call(asBytes);
    assert.equal(failure, undefined);
    const ways = heard.map(({ way }) => way);
    assert.deepEqual([ways[0], ways.at(-1)], ["iterated", "iterated"]);
    assert.ok(ways.slice(1, -1).every((way) => way === "poured") && ways.length > 4, ways.join(" "));
    const sent = Array.from({ length: 20 }, (_, index) => frame(`${index}`)).join("");
    assert.equal(bytesOf(heard.slice(0, -1)), sent + chunk({ model: "m" }, {}, "stop"));
    assert.equal(heard.at(-1)?.event.type, "end");
  });

  it("gives callers of another wire the same events by both ways", async () => {
    const texts = ["a", "b", "c", "d"];
    answer = async (res) => {
      for (const text of texts) {
        res.write(frame(text));
        await sleep(5);
      }
      res.end(last);
    };
    const { heard } = await call(neutralRequest({ stream: true }));
    const said = heard.flatMap(({ event }) => (event.type === "delta" ? [event.text] : []));
    assert.deepEqual(said, texts);
    assert.ok(heard.some(({ way, event }) => way === "poured" && event.type === "delta"));
  });

  it("is not read on while its sink is full, and then goes on where it was", async () => {
    let isSent = false;
    const big = "x".repeat(16_000);
    const count = 2_000;
    answer = async (res) => {
      for (let index = 0; index < count; index++) {
        if (!res.write(frame(`${index} ${big}`))) await once(res, "drain");
        if (index === 0) await sleep(20);
      }
      res.end(last);
      isSent = true;
    };
    let wasSentAhead = false;
    let pours = 0;
    const { heard, failure } = await call(asBytes, async () => {
      pours++;
      if (pours > 1) return;
      await sleep(300);
      wasSentAhead = isSent;
      assert.equal(pours, 1, "nothing came while the sink was full");
    });
    assert.equal(failure, undefined);
    assert.equal(wasSentAhead, false, "32 MB were taken from the provider for a reader that did not read");
    const seen = [...bytesOf(heard).matchAll(/"content":"(\d+) /g)].map(([, index]) => Number(index));
    assert.deepEqual(
      seen,
      Array.from({ length: count }, (_, index) => index),
    );
  });

  it("that breaks off gives out what came before, and then fails", async () => {
    answer = async (res) => {
      res.write(frame("a"));
      await sleep(20);
      res.write(frame("b"));
      await sleep(20);
      res.write(frame("c"), () => res.destroy());
    };
    const { heard, failure } = await call(asBytes);
    assert.equal(bytesOf(heard), frame("a") + frame("b") + frame("c"));
    assert.ok(failure instanceof GatewayError);
    assert.equal(failure.code, "stream_interrupted");
  });

  it("ends when its caller goes away, also while the sink is full", async () => {
    for (const isFull of [false, true]) {
      let cut = () => {};
      const isCut = new Promise<void>((resolve) => {
        cut = resolve;
      });
      answer = async (res) => {
        res.on("close", cut);
        for (; !res.destroyed; await sleep(5)) res.write(frame("a"));
      };
      const abort = new AbortController();
      setTimeout(() => abort.abort(new Error("gone")), 50);
      const gone = once(abort.signal, "abort");
      const { failure } = await call(asBytes, () => (isFull ? gone : undefined), abort.signal);
      assert.ok(failure instanceof GatewayError, String(failure));
      await isCut;
    }
  });

  it("is read no further than its last word", async () => {
    let connections = 0;
    server.on("connection", () => connections++);
    answer = async (res) => {
      res.write(frame("a"));
      await sleep(10);
      res.write(last);
      setTimeout(() => res.end(), 20);
    };
    for (let count = 0; count < 3; count++) {
      const { heard, failure } = await call(asBytes);
      assert.equal(failure, undefined);
      assert.equal(heard.at(-1)?.event.type, "end");
      await sleep(60);
    }
    assert.equal(connections, 1, "the connection is used again");
  });

  it("whose sink fails, fails so", async () => {
    answer = async (res) => {
      for (; !res.destroyed; await sleep(5)) res.write(frame("a"));
    };
    const bug = new Error("a bug");
    const { failure } = await call(asBytes, () => {
      throw bug;
    });
    assert.equal(failure, bug);
  });
});
