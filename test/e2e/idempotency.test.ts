import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createCompletionClient, Role } from "../../src/client.ts";
import { sendJson } from "../upstream.ts";
import { Stack } from "./stack.ts";

/** What a caller was told, whichever door he came through. */
interface Told {
  readonly status: number;
  readonly code: string;
  readonly shouldRetry: string | null;
}

describe("Idempotency-Key, at both doors of two sidecars", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 2 });
  });
  after(() => stack.close());

  async function byHttp(sidecar: number, key: string, idempotencyKey: string): Promise<Told> {
    const answer = await fetch(`${stack.sidecars[sidecar]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${key}`,
        "content-type": "application/json",
        "idempotency-key": idempotencyKey,
      },
      body: JSON.stringify({ model: "ok", messages: [{ role: "user", content: "Hello" }] }),
    });
    const { error } = (await answer.json()) as { error?: { code: string } };
    return { status: answer.status, code: error?.code ?? "", shouldRetry: answer.headers.get("x-should-retry") };
  }

  async function byRpc(sidecar: number, key: string, idempotencyKey: string): Promise<Told> {
    const client = createCompletionClient({ apiKey: key, baseUrl: stack.sidecars[sidecar]?.url ?? "", retries: 0 });
    const chat = { model: "ok", messages: [{ role: Role.USER, text: "Hello" }] };
    try {
      await client.complete({ chat }, { headers: { "idempotency-key": idempotencyKey } });
      return { status: 200, code: "", shouldRetry: null };
    } catch (thrown) {
      const { code, metadata, rawMessage } = ConnectError.from(thrown);
      assert.equal(code, Code.Aborted, rawMessage);
      return { status: 409, code: "duplicate_request", shouldRetry: metadata.get("x-should-retry") };
    }
  }

  const everywhere = (key: string, idempotencyKey: string) =>
    [0, 1].flatMap((sidecar) => [byHttp(sidecar, key, idempotencyKey), byRpc(sidecar, key, idempotencyKey)]);

  const told = (shouldRetry: string): Told => ({ status: 409, code: "duplicate_request", shouldRetry });

  /** Has the model "ok" wait before it answers. @returns what lets it. */
  function holdAnswers(): () => void {
    const answer = stack.upstream.scripts.get("ok");
    assert.ok(answer);
    const gate = Promise.withResolvers<void>();
    stack.upstream.scripts.set("ok", async (...call) => {
      await gate.promise;
      await answer(...call);
    });
    return () => {
      stack.upstream.scripts.set("ok", answer);
      gate.resolve();
    };
  }

  test("of calls with one at once one is made and booked; the others may retry, and once it is answered they may not", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    const before = stack.upstream.calls.length;
    const letAnswer = holdAnswers();
    const answers = everywhere(key, "order-1");
    const refused: Told[] = [];
    for (const answer of answers) void answer.then((outcome) => outcome.status === 409 && refused.push(outcome));
    const startMs = performance.now();
    while (refused.length < answers.length - 1 && performance.now() - startMs < 10_000) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    letAnswer();
    assert.equal((await Promise.all(answers)).filter(({ status }) => status === 200).length, 1);
    assert.deepEqual(refused, [told("true"), told("true"), told("true")]);
    for (const again of everywhere(key, "order-1")) assert.deepEqual(await again, told("false"));
    assert.equal(stack.upstream.calls.length - before, 1);
    assert.equal((await byRpc(1, key, "order-2")).status, 200, "another idempotency key is another call");
    assert.equal((await byHttp(0, await stack.generateKey(), "order-1")).status, 200, "so is another caller's");
    assert.equal((await stack.booked(key, 2)).length, 2);
  });

  test("a call that the provider failed may be made again with it, at the other sidecar", async () => {
    const key = await stack.generateKey();
    const answer = stack.upstream.scripts.get("ok");
    assert.ok(answer);
    stack.upstream.scripts.set("ok", (_call, res) => sendJson(res, 500, { error: { message: "no" } }));
    const failed = await byHttp(0, key, "order-3");
    stack.upstream.scripts.set("ok", answer);
    assert.ok(failed.status >= 500, JSON.stringify(failed));
    assert.equal((await byRpc(1, key, "order-3")).status, 200);
    assert.deepEqual(await byHttp(0, key, "order-3"), told("false"));
  });
});
