import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import type { Caller } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { accepted, type CallScript, chatBody, hear, settled, TestDoor } from "./openai-door.ts";

let door: TestDoor;

before(async () => {
  door = await new TestDoor({ pingMs: 60, stallMs: 300 }).open();
});

after(() => door.close());

const frame = Buffer.from('data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n');

/** A script's end, however it comes. */
class Ending {
  readonly reached: Promise<Caller>;
  #reach: (caller: Caller) => void = () => {};

  constructor() {
    this.reached = new Promise((resolve) => {
      this.#reach = resolve;
    });
  }

  note(caller: Caller): void {
    this.#reach(caller);
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** The same events, those between the first and the last by the door's sink, as a provider that need not be iterated gives them. */
function poured(script: CallScript): CallScript {
  return async function* (request, caller) {
    const { sink, signal } = caller;
    assert.ok(sink);
    let begun = false;
    for await (const event of script(request, caller)) {
      if (event.type === "accepted" || event.type === "settled" || !begun) yield event;
      else {
        await sink(event);
        signal.throwIfAborted();
      }
      begun ||= event.type !== "accepted";
    }
  };
}

const ways: readonly (readonly [string, (script: CallScript) => CallScript])[] = [
  ["iterated", (script) => script],
  ["poured", poured],
];

test("a silent stream is kept alive by comments, which clients do not see", async () => {
  door.gateway.scripts.set("slow", async function* () {
    yield accepted;
    yield { type: "raw", bytes: frame, outputTokens: 1 };
    await new Promise((resolve) => setTimeout(resolve, 200));
    yield settled("data: [DONE]\n\n");
  });
  const text = await (await door.post(chatBody("slow", { stream: true }))).text();
  const pings = text.match(/: ping\n\n/g)?.length ?? 0;
  assert.ok(pings >= 1 && pings <= 3, `${pings} pings`);
  assert.equal(text.replaceAll(": ping\n\n", ""), `${frame}data: [DONE]\n\n`);
  const stream = await door.client().chat.completions.create({ ...chatBody("slow"), stream: true });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.equal(chunks.length, 1);
});

test("a busy stream gets no comments", async () => {
  door.gateway.scripts.set("busy", async function* () {
    yield accepted;
    for (let sent = 0; sent < 15; sent += 1) {
      yield { type: "raw", bytes: frame, outputTokens: 1 };
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    yield settled("data: [DONE]\n\n");
  });
  assert.doesNotMatch(await (await door.post(chatBody("busy", { stream: true }))).text(), /ping/);
});

test("the head waits for the first event, so that a late failure still has its status", async () => {
  door.gateway.scripts.set("late", async function* () {
    yield accepted;
    await new Promise((resolve) => setTimeout(resolve, 20));
    throw new GatewayError("provider_error", "It failed.");
  });
  const response = await door.post(chatBody("late", { stream: true }));
  assert.equal(response.status, 502);
  assert.equal(response.headers.get("x-litellm-call-id"), "call-1");
});

test("each event is on its way before the next is made", async () => {
  let release: () => void = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  door.gateway.scripts.set("paced", async function* () {
    yield accepted;
    yield { type: "raw", bytes: frame, outputTokens: 1 };
    await released;
    yield settled("data: [DONE]\n\n");
  });
  const response = await door.post(chatBody("paced", { stream: true }));
  const reader = response.body?.getReader();
  const first = await reader?.read();
  assert.equal(Buffer.from(first?.value ?? []).toString(), frame.toString());
  release();
  await reader?.cancel();
});

test("a caller that goes away aborts the call at once, also while it waits", async () => {
  for (const stream of [true, false]) {
    const ending = new Ending();
    let abortedAtMs = Number.POSITIVE_INFINITY;
    door.gateway.scripts.set("waits", async function* (_request, caller) {
      try {
        yield accepted;
        if (stream) yield { type: "raw", bytes: frame, outputTokens: 1 };
        await aborted(caller.signal);
      } finally {
        abortedAtMs = performance.now();
        ending.note(caller);
      }
    });
    const socket = await door.connect();
    const body = JSON.stringify(chatBody("waits", { stream }));
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    if (stream) await hear(socket, "delta");
    else await new Promise((resolve) => setTimeout(resolve, 50));
    const leftAtMs = performance.now();
    socket.destroy();
    const caller = await ending.reached;
    assert.ok(caller.signal.reason instanceof GatewayError);
    assert.equal(caller.signal.reason.code, "client_closed_request");
    assert.ok(abortedAtMs - leftAtMs < 200);
  }
  assert.deepEqual(door.bugs, []);
});

test("a caller that has its whole answer aborts nothing, and the call comes to its own end", async () => {
  const ending = new Ending();
  door.gateway.scripts.set("whole", async function* (_request, caller) {
    yield accepted;
    yield settled("data: [DONE]\n\n");
    ending.note(caller);
  });
  await (await door.post(chatBody("whole", { stream: true }), { connection: "close" })).text();
  const caller = await ending.reached;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(caller.signal.aborted, false);
});

for (const [way, by] of ways)
  test(`frames of any length arrive byte for byte, by HTTP/1.1 and by HTTP/1.0, ${way}`, async () => {
    const frames = [0, 1, 15, 16, 4_095, 4_096, 4_097, 255, 70_000, 3, 0, 256].map((length) =>
      Buffer.alloc(length, "x"),
    );
    const all = `${Buffer.concat(frames)}data: [DONE]\n\n`;
    door.gateway.scripts.set(
      "lengths",
      by(async function* () {
        yield accepted;
        for (const [index, bytes] of frames.entries()) {
          yield { type: "raw", bytes, outputTokens: 1 };
          if (index % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        }
        yield settled("data: [DONE]\n\n");
      }),
    );
    const bodies = [1, 2].map(async () => (await door.post(chatBody("lengths", { stream: true }))).text());
    for (const text of await Promise.all(bodies)) assert.equal(text, all);
    const socket = await door.connect();
    const body = JSON.stringify(chatBody("lengths", { stream: true }));
    socket.write(`POST /v1/chat/completions HTTP/1.0\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    const heard = await hear(socket);
    assert.equal(heard.slice(heard.indexOf("\r\n\r\n") + 4), all);
  });

for (const [what, length] of [
  ["short", 100],
  ["long", 1_000_000],
] as const)
  for (const [way, by] of ways)
    test(`a reader of ${what} ${way} frames that stops reading is cut off, and the call ends`, () =>
      cutsOff(length, by));

async function cutsOff(length: number, by: (script: CallScript) => CallScript): Promise<void> {
  const ending = new Ending();
  const big = Buffer.from(`data: {"x":"${"y".repeat(length)}"}\n\n`);
  let made = 0;
  door.gateway.scripts.set(
    "flood",
    by(async function* (_request, caller) {
      try {
        yield accepted;
        for (;;) {
          made += 1;
          yield { type: "raw", bytes: big, outputTokens: 1 };
        }
      } finally {
        ending.note(caller);
      }
    }),
  );
  const socket = await door.connect();
  const body = JSON.stringify(chatBody("flood", { stream: true }));
  socket.pause();
  const startedMs = performance.now();
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  const caller = await ending.reached;
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs >= 250 && tookMs < 1500, `${tookMs} ms`);
  assert.equal(caller.signal.aborted, true);
  assert.ok(made * big.length < 100_000_000, `${made} frames were made for nobody`);
  socket.on("error", () => {});
  socket.destroy();
}

for (const [way, by] of ways)
  test(`a slow reader gets everything, ${way}`, async () => {
    const big = Buffer.from(`data: {"x":"${"y".repeat(200_000)}"}\n\n`);
    door.gateway.scripts.set(
      "large",
      by(async function* () {
        yield accepted;
        for (let sent = 0; sent < 50; sent += 1) yield { type: "raw", bytes: big, outputTokens: 1 };
        yield settled("data: [DONE]\n\n");
      }),
    );
    const socket = await door.connect();
    const body = JSON.stringify(chatBody("large", { stream: true }));
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    let bytes = 0;
    let tail = "";
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      tail = (tail + chunk.toString("latin1")).slice(-40);
      if (bytes % 7 !== 0) return;
      socket.pause();
      setTimeout(() => socket.resume(), 5);
    });
    await once(socket, "close");
    assert.ok(bytes > 50 * big.length);
    assert.match(tail, /data: \[DONE\]\n\n/);
  });

test("an event that cannot be written ends the call, and is told of as a bug", async () => {
  const ending = new Ending();
  door.gateway.scripts.set(
    "unwritable",
    poured(async function* (_request, caller) {
      try {
        yield accepted;
        yield { type: "start", id: "1", model: "m", createdS: 1 };
        yield { type: "delta", choice: 0, text: "a" };
        yield { type: "delta", choice: 0, text: 1n as unknown as string };
        await aborted(caller.signal);
      } finally {
        ending.note(caller);
      }
    }),
  );
  const answer = await door.post(chatBody("unwritable", { stream: true }));
  assert.match(await answer.text(), /"content":"a"[\s\S]*internal_error/);
  const { signal } = await ending.reached;
  assert.equal(signal.aborted, true);
  assert.equal(door.bugs.splice(0).length, 1);
});
