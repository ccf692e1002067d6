import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { freePort } from "../free-port.ts";
import { Process } from "./stack.ts";

describe("tollgate up", () => {
  const dataDir = mkdtempSync(join(tmpdir(), "tollgate-up-"));
  let port = 0;
  let env: Record<string, string> = {};
  let up: Process;
  before(async () => {
    port = await freePort();
    env = {
      TOLLGATE_DATA_DIR: dataDir,
      TOLLGATE_PORT: String(port),
      TOLLGATE_ADMIN_PORT: String(await freePort()),
      TOLLGATE_KEYSERVICE_PORT: String(await freePort()),
    };
    up = new Process(["up"], env);
  });
  after(async () => {
    await up.kill("SIGTERM");
    rmSync(dataDir, { recursive: true, force: true });
  });

  async function greeting(): Promise<{ key: string; text: string }> {
    for (let tries = 0; tries < 300; tries++) {
      const key = /Virtual key\s+(sk-\w+)/.exec(up.output)?.[1];
      if (key !== undefined && up.output.includes("grpcurl")) return { key, text: up.output };
      assert.equal(up.ended, false, up.output);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.fail(`no greeting:\n${up.output}`);
  }

  const ask = async (apiKey: string): Promise<string | null | undefined> => {
    const client = new OpenAI({ apiKey, baseURL: `http://127.0.0.1:${port}/v1`, maxRetries: 0 });
    const answer = await client.chat.completions.create({
      model: "demo",
      messages: [{ role: "user", content: "Hello" }],
    });
    return answer.choices[0]?.message.content;
  };

  test("prints a key that works at once, and the master key only the first time", async () => {
    const { key, text } = await greeting();
    assert.match((await ask(key)) ?? "", /metered and billed/);
    assert.match(text, /Master key\s+sk-\w+ /);
  });

  test("management paths answer on the same port", async () => {
    const masterKey = readFileSync(join(dataDir, "master-key"), "utf8").trim();
    const answer = await fetch(`http://127.0.0.1:${port}/key/generate`, {
      method: "POST",
      headers: { authorization: `Bearer ${masterKey}`, "content-type": "application/json" },
      body: JSON.stringify({ models: ["demo"], max_budget: 1 }),
    });
    assert.equal(answer.status, 200);
    assert.match((await ask(String(((await answer.json()) as { key: string }).key))) ?? "", /billed/);
  });

  test("a second one on the same data says who holds it", async () => {
    const second = new Process(["up"], { ...env, TOLLGATE_PORT: String(await freePort()) });
    for (let tries = 0; tries < 100 && !second.ended; tries++) await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(second.ended, true);
    assert.match(second.output, new RegExp(`\\b${up.pid}\\b`));
  });

  test("a second one at the same port says which it is and what to do", async () => {
    const otherDir = mkdtempSync(join(tmpdir(), "tollgate-up-"));
    const taken = env.TOLLGATE_KEYSERVICE_PORT;
    try {
      const second = new Process(["up"], { ...env, TOLLGATE_DATA_DIR: otherDir });
      assert.equal(await second.exited(), 70, second.output);
      assert.match(second.output, new RegExp(`Port ${taken} at 127.0.0.1 is taken .* TOLLGATE_KEYSERVICE_PORT`));
      assert.doesNotMatch(second.output, /\n +at /);
    } finally {
      rmSync(otherDir, { recursive: true, force: true });
    }
  });

  test("killed, it leaves no orphan that blocks the next start, and nothing is lost", async () => {
    const { key } = await greeting();
    await up.kill("SIGKILL");
    up.output = "";
    up.restart();
    const again = await greeting();
    assert.equal(again.key, key);
    assert.doesNotMatch(again.text, /Master key/);
    assert.match((await ask(key)) ?? "", /billed/);
  });

  test("secrets are kept in files only their owner reads, and no log names the master key", async () => {
    const masterKey = readFileSync(join(dataDir, "master-key"), "utf8").trim();
    assert.ok(readdirSync(dataDir).includes("pepper"));
    assert.equal(up.output.includes(masterKey), false);
  });

  test("SIGTERM ends it with 0", async () => {
    assert.equal(await up.kill("SIGTERM"), 0);
    up.restart();
    await greeting();
  });

  test("a wrong command line and a wrong configuration end with 64 and say what to do", async () => {
    for (const [args, expected] of [
      [["fly"], /"fly" is no command/],
      [["up", "--confg", "x"], /--confg/],
      [["sidecar", "--config", "/no/such/file.yaml"], /\/no\/such\/file.yaml/],
      [["sidecar"], /--config FILE/],
      [["keyservice"], /DATABASE_URL/],
    ] as const) {
      const wrong = new Process(args, { TOLLGATE_DATA_DIR: dataDir });
      for (let tries = 0; tries < 100 && !wrong.ended; tries++) await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(await wrong.kill("SIGKILL"), 64, wrong.output);
      assert.match(wrong.output, expected);
    }
  });
});
