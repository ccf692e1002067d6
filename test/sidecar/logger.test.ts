import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { redact } from "../../sidecar/log-redaction.ts";
import { logText } from "../../sidecar/log-text.ts";

const logger = JSON.stringify(new URL("../../sidecar/logger.ts", import.meta.url).href);

/** Runs a program with a log of its own. @returns what it wrote, when it has ended. */
async function outputOf(program: string, format = "json"): Promise<string> {
  const code = `import { createLogger } from ${logger};
    const log = createLogger({ logLevel: "info", logFormat: "${format}" }, { service: "tollgate" });
    ${program}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (text) => {
    output += String(text);
  });
  await once(child, "close");
  return output;
}

test("what is secret is left out by its name, whatever it looks like, and by its looks, whatever its name", () => {
  const facts = {
    authorization: "Basic b3duIHdvcmRz",
    headers: { "X-Api-Key": "plain words", "content-type": "application/json", cookie: "a=b" },
    options: [{ master_key: "plain words" }, { url: "https://user:hunter2@db/name" }],
    note: "with sk-live-abcdef1234567890 in it",
    messages: [{ role: "user", content: "what was said" }],
    traceId: "0af7651916cd43dd8448eb211c80319c",
    keyId: "key_1",
    count: 3,
  };
  assert.deepEqual(redact(facts), {
    authorization: "[secret]",
    headers: { "X-Api-Key": "[secret]", "content-type": "application/json", cookie: "[secret]" },
    options: [{ master_key: "[secret]" }, { url: "https://user:[secret]@db/name" }],
    note: "with [secret] in it",
    messages: "[content]",
    traceId: "0af7651916cd43dd8448eb211c80319c",
    keyId: "key_1",
    count: 3,
  });
});

test("facts without anything secret are not copied, and those without end are cut", () => {
  const facts = { requestId: "r-1", durationMs: 1.5 };
  assert.equal(redact(facts), facts);
  const endless: Record<string, unknown> = {};
  endless.again = endless;
  assert.match(JSON.stringify(redact(endless)), /\[deep\]/);
});

test("lines are JSON, with errors whole but for what is secret in them", async () => {
  const [line, ...others] = (
    await outputOf(
      `log.warn({ token: "abc", error: new Error("no sk-live-abcdef1234567890") }, "went wrong with sk-live-abcdef1234567890");`,
    )
  )
    .trim()
    .split("\n");
  assert.deepEqual(others, []);
  const { level, msg, service, token, error, time } = JSON.parse(line ?? "");
  assert.deepEqual([level, msg, service, token], ["warn", "went wrong with [secret]", "tollgate", "[secret]"]);
  assert.match(error, /^Error: no \[secret\]\n +at /);
  assert.ok(!Number.isNaN(Date.parse(time)));
});

test("people get a line they can read", async () => {
  const line = await outputOf(`log.info({ model: "gpt", stream: false }, "call answered");`, "text");
  const esc = String.fromCharCode(27);
  const plain = line.replaceAll(new RegExp(`${esc}\\[\\d*m`, "g"), "");
  assert.match(plain, /^\d\d:\d\d:\d\d\.\d{3} info {2}call answered {2}model=gpt stream=false\n$/);
  assert.equal(logText("no JSON\n"), "no JSON\n");
});

test("what was logged right before the end is written, however the process ends", async () => {
  for (const end of ["", "process.exit(1);", "setImmediate(() => { throw new Error('a crash'); });"]) {
    const output = await outputOf(
      `process.stderr.write = () => true; for (let i = 0; i < 100; i++) log.info({ i }, "line"); ${end}`,
    );
    assert.equal(output.trim().split("\n").length, 100, end);
  }
});

test("nobody waits for a reader that does not read, and memory has an end", async () => {
  const code = `import { createLogger } from ${logger};
    const log = createLogger({ logLevel: "info", logFormat: "json" }, {});
    const text = "x ".repeat(500);
    const startedMs = performance.now();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 20_000; i++) {
      log.info({ text }, "line");
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    globalThis.gc();
    process.stderr.write(JSON.stringify({ tookMs: performance.now() - startedMs, grown: process.memoryUsage().rss - before }));
    process.kill(process.pid, "SIGKILL");`;
  const args = ["--expose-gc", "--input-type=module", "--eval", code];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let told = "";
  child.stderr.on("data", (text) => {
    told += String(text);
  });
  await once(child, "exit");
  const { tookMs, grown } = JSON.parse(told);
  assert.ok(tookMs < 20_000, `${tookMs} ms`);
  // 20 MB were logged, and nobody has read any of it.
  assert.ok(grown < 80 * 1_048_576, `${grown} bytes`);
});
