import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { HttpReceiver, type Posted } from "../alert-receivers.ts";
import { Process, Stack } from "./stack.ts";

describe("alerts of real programs", () => {
  let receiver: HttpReceiver;
  let stack: Stack;
  before(async () => {
    receiver = await HttpReceiver.open();
    stack = await Stack.start({
      sidecars: 1,
      config: "general_settings:\n  alerting: [webhook, slack]",
      env: { WEBHOOK_URL: `${receiver.origin}/hook`, SLACK_WEBHOOK_URL: `${receiver.origin}/secret-slack-path` },
    });
  });
  after(async () => {
    await stack?.close();
    await receiver?.close();
  });

  async function posted(count: number): Promise<readonly Posted[]> {
    for (let tries = 0; receiver.posted.length < count && tries < 300; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return receiver.posted;
  }

  it("a soft budget that a call passes is told of at once, to everybody, though the first try failed", async () => {
    receiver.statuses.push(503);
    const key = await stack.generateKey({ soft_budget: 0.000001, key_alias: "spender" });
    assert.equal((await stack.chat(0, key)).status, 200);
    const all = await posted(2);
    const hook = all.find(({ path }) => path === "/hook")?.body;
    assert.equal(hook?.key_alias, "spender");
    assert.equal(hook?.event, "soft_budget_crossed");
    assert.equal(hook?.event_group, "key");
    assert.match(all.find(({ path }) => path !== "/hook")?.body.text, /spender/);
    assert.doesNotMatch(stack.keyService.output, /secret-slack-path/);
    assert.match(stack.keyService.output, /An alert could not be delivered/);
  });

  it("a KeyService that is to alert somebody it cannot reach says so, and does not start", async () => {
    const program = new Process(["keyservice"], {
      DATABASE_URL: "postgresql://127.0.0.1:1/none",
      LITELLM_MASTER_KEY: "sk-master-key-of-the-tests",
      TOLLGATE_ALERTING: "slack,email",
    });
    while (!program.ended) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(await program.kill("SIGKILL"), 64);
    assert.match(program.output, /SLACK_WEBHOOK_URL is not set/);
    assert.match(program.output, /SMTP_HOST is not set/);
  });
});
