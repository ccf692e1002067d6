import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Stack } from "./stack.ts";

let stack: Stack;
before(async () => {
  stack = await Stack.start({ sidecars: 1, config: "  disable_cooldowns: true" });
});
after(() => stack.close());

async function post(path: string, body: object): Promise<Record<string, unknown>> {
  const answer = await stack.admin("POST", path, body);
  assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** How a call to a model that always fails ends once a change is known, within a second. */
async function ends(key: string, status: number): Promise<Response> {
  const deadlineMs = performance.now() + 1_000;
  let answer = await stack.chat(0, key, { model: "down" });
  while (answer.status !== status && performance.now() < deadlineMs) {
    answer = await stack.chat(0, key, { model: "down" });
  }
  assert.equal(answer.status, status);
  return answer;
}

test("a team's fallbacks serve its keys, a key's own go before them, and a change is felt within a second", async () => {
  const { team_id } = await post("/team/new", { team_alias: "with fallbacks" });
  const key = await stack.generateKey({ team_id });
  await ends(key, 502);
  await post("/team/update", { team_id, router_settings: { fallbacks: [{ down: ["ok"] }] } });
  const served = await ends(key, 200);
  assert.equal(served.headers.get("x-litellm-model-group"), "ok");
  assert.equal(served.headers.get("x-litellm-attempted-fallbacks"), "1");
  await post("/key/update", { key, router_settings: { fallbacks: [], num_retries: 1 } });
  const failed = await ends(key, 502);
  assert.equal(failed.headers.get("x-litellm-attempted-retries"), "1");
  await post("/key/update", { key, router_settings: null });
  await ends(key, 200);
});
