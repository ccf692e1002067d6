import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { createCompletionClient, Role } from "../../src/client.ts";
import { errorInfo } from "../../src/server/rpc-error.ts";
import { Stack } from "./stack.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 20));

describe("what operators change on a key, at a sidecar that knows the key already", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 1 });
  });
  after(() => stack.close());

  /** The status of calls with a key, asked until it is the expected one or two seconds are over. */
  async function becomes(
    key: string,
    expected: number,
    fields: object = {},
  ): Promise<{ status: number; tookMs: number }> {
    const startMs = performance.now();
    for (;;) {
      const { status } = await stack.chat(0, key, fields);
      const tookMs = performance.now() - startMs;
      if (status === expected || tookMs > 2_000) return { status, tookMs };
      await tick();
    }
  }

  test("a replaced secret is refused by push, and the new one goes on with what was spent", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    assert.equal((await stack.chat(0, key)).status, 200);
    const { body } = await stack.admin("POST", `/key/${key}/regenerate`, {});
    const { status, tookMs } = await becomes(key, 401);
    assert.equal(status, 401, `after ${tookMs} ms`);
    const fresh = String(body.key);
    assert.equal((await stack.chat(0, fresh)).status, 200);
    // One call or another may have come before the push.
    const rows = await stack.booked(fresh, 2);
    assert.ok(rows.length >= 2);
    assert.equal((await stack.spent(fresh)).spent, 24_000n * BigInt(rows.length));
  });

  test("a key that may only complete completes, and one that may not does not, at both doors", async () => {
    const url = stack.sidecars[0]?.url ?? "";
    const models = async (key: string) =>
      (await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status;
    const rpc = async (key: string) => {
      const chat = { model: "ok", messages: [{ role: Role.USER, text: "Hello" }] };
      const client = createCompletionClient({ baseUrl: url, apiKey: key });
      try {
        await client.complete({ chat });
        return "OK";
      } catch (error) {
        assert.ok(error instanceof ConnectError);
        return errorInfo(error)?.reason ?? "";
      }
    };
    const statuses = async (allowed_routes: string[]) => {
      const key = await stack.generateKey({ allowed_routes });
      return [(await stack.chat(0, key)).status, await models(key), await rpc(key)];
    };
    const [yes, no] = ["OK", "PERMISSION_DENIED"];
    assert.deepEqual(await statuses([]), [200, 200, yes]);
    assert.deepEqual(await statuses(["llm_api_routes"]), [200, 200, yes]);
    assert.deepEqual(await statuses(["/chat/completions"]), [200, 403, yes]);
    assert.deepEqual(await statuses(["/v1/*"]), [200, 200, yes]);
    assert.deepEqual(await statuses(["/v1/models"]), [403, 200, no]);
    assert.deepEqual(await statuses(["/tollgate.completion.v1.CompletionService/*"]), [403, 403, yes]);
    assert.deepEqual(await statuses(["info_routes", "management_routes"]), [403, 403, no]);
    const key = await stack.generateKey({ allowed_routes: ["info_routes"] });
    const refused = await stack.chat(0, key);
    const { error } = (await refused.json()) as { error: { type: string; code: string } };
    assert.deepEqual([error.type, error.code], ["auth_error", "permission_denied"]);
    await stack.admin("POST", "/key/update", { key, allowed_routes: null });
    assert.equal((await becomes(key, 200)).status, 200);
  });

  test("what a key's calls must have is asked for", async () => {
    const key = await stack.generateKey({ enforced_params: ["user", "metadata.project"] });
    const ask = async (fields: object) => {
      const answer = await stack.chat(0, key, fields);
      const { error } = (await answer.json()) as { error?: { param: string } };
      return [answer.status, error?.param];
    };
    assert.deepEqual(await ask({}), [400, "user"]);
    assert.deepEqual(await ask({ user: "u", metadata: {} }), [400, "metadata.project"]);
    assert.deepEqual(await ask({ user: "u", metadata: { project: null } }), [400, "metadata.project"]);
    assert.deepEqual(await ask({ user: null, metadata: { project: "p" } }), [400, "user"]);
    assert.deepEqual(await ask({ user: "u", metadata: { project: "p" } }), [200, undefined]);
  });

  test("a budget that is set back, or increased for a time, pays again in a moment", async () => {
    const key = await stack.generateKey({ max_budget: 0.00015, budget_duration: "1mo" });
    const ask = async () => (await stack.chat(0, key, { max_tokens: 12 })).status;
    let status = 200;
    let answered = -1;
    for (; answered < 20 && status === 200; answered++) status = await ask();
    assert.equal(status, 429);
    await stack.booked(key, answered);
    const { body } = await stack.admin("POST", `/key/${key}/reset_spend`, { reset_to: 0 });
    assert.ok(Number(body.previous_spend) > 0);
    // A pod believes a refusal for a fifth of a second.
    assert.equal((await becomes(key, 200, { max_tokens: 12 })).status, 200);
    for (status = 200; status === 200; ) status = await ask();
    assert.equal(status, 429);
    await stack.admin("POST", "/key/update", {
      ...{ key, temp_budget_increase: 1 },
      temp_budget_expiry: new Date(Date.now() + 60_000).toISOString(),
    });
    assert.equal((await becomes(key, 200, { max_tokens: 12 })).status, 200);
  });

  test("a secret in its grace ends by the time the sidecar was told, although nobody tells it again", async () => {
    const key = await stack.generateKey();
    const { body } = await stack.admin("POST", "/key/regenerate", { key, grace_period: "2s" });
    const startMs = performance.now();
    // After the push, so that the sidecar asks again.
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal((await stack.chat(0, String(body.key))).status, 200);
    let status = (await stack.chat(0, key)).status;
    assert.equal(status, 200);
    await stack.keyService.kill("SIGKILL");
    try {
      while (performance.now() - startMs < 6_000 && status === 200) {
        status = (await stack.chat(0, key)).status;
        await tick();
      }
      const tookMs = performance.now() - startMs;
      assert.equal(status, 401);
      assert.ok(tookMs > 1_500 && tookMs < 3_500, `${tookMs} ms`);
      assert.equal((await stack.chat(0, String(body.key))).status, 200, "the new secret works on");
    } finally {
      stack.keyService.restart();
      await stack.keyServiceReady();
    }
  });
});
