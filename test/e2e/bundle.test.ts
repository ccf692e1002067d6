import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import { createCompletionClient } from "../../src/client.ts";
import { Role } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { bundled } from "../bundled.ts";
import { Stack } from "./stack.ts";

/** Says, when it is asked, whether Node has loaded its own copy of undici. */
const tellsOfUndici =
  'process.on("SIGUSR2", () => console.log("undici: " + process.moduleLoadList.some((name) => name.includes("deps/undici"))));';

/** The image leaves parts of packages out: what is missed then is missed in no other test. */
describe("the programs as the image has them", () => {
  const folder = mkdtempSync(join(tmpdir(), "tollgate-bundle-"));
  let stack: Stack;
  let url = "";
  let apiKey = "";
  before(async () => {
    stack = await Stack.start({
      ...{ sidecars: 1, program: bundled(folder) },
      nodeFlags: ["--import", `data:text/javascript,${encodeURIComponent(tellsOfUndici)}`],
    });
    url = stack.sidecars[0]?.url ?? "";
    apiKey = await stack.generateKey({ max_budget: 1, rpm_limit: 100 });
  });
  after(async () => {
    await stack.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("answer by HTTP, whole and as a stream", async () => {
    const client = new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });
    const body = { model: "ok", messages: [{ role: "user" as const, content: "Hello" }] };
    const whole = await client.chat.completions.create(body);
    assert.ok(whole.choices[0]?.message.content);
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...body, stream: true }))
      text += chunk.choices[0]?.delta.content ?? "";
    assert.ok(text);
  });

  test("answer by gRPC", async () => {
    const client = createCompletionClient({ baseUrl: url, apiKey, retries: 0 });
    const answer = await client.complete({ chat: { model: "ok", messages: [{ role: Role.USER, text: "Hello" }] } });
    assert.ok(answer.choices[0]?.text);
  });

  test("have Node load nothing that only browsers need, not even for the first call", async () => {
    const program = stack.sidecars[0]?.process;
    process.kill(program?.pid ?? 0, "SIGUSR2");
    const untilMs = Date.now() + 10_000;
    let told: string | undefined;
    while (told === undefined && Date.now() < untilMs) {
      await sleep(20);
      told = /undici: (\w+)/.exec(program?.output ?? "")?.[1];
    }
    assert.equal(told, "false");
  });
});
