import assert from "node:assert/strict";
import { test } from "node:test";
import { Stack } from "./stack.ts";

test("a KeyService fills in the defaults of its file, and holds the bounds", async () => {
  const stack = await Stack.start({
    sidecars: 0,
    config: `litellm_settings:
  default_key_generate_params: {rpm_limit: 60}
  upperbound_key_generate_params: {max_budget: 100}`,
  });
  try {
    const made = await stack.admin("POST", "/key/generate", {});
    assert.deepEqual([made.status, made.body.rpm_limit, made.body.max_budget], [200, 60, 100]);
    const over = await stack.admin("POST", "/key/generate", { max_budget: 101 });
    assert.equal(over.status, 400);
    assert.match(JSON.stringify(over.body), /`max_budget` must be at most 100/);
  } finally {
    await stack.close();
  }
});
