import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { explain } from "../../sidecar/cli/explain.ts";
import { readSettings } from "../../sidecar/settings.ts";
import { masterKey, Stack } from "./stack.ts";

const main = new URL("../../sidecar/main.ts", import.meta.url).pathname;

function deployment(group: string, id: string, facts: readonly string[] = [], info: readonly string[] = []): string {
  return `
  - model_name: ${group}
    litellm_params:
      model: openai/${id}
      mock_response: "hello from ${id}"
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
      max_tokens: 50${facts.map((fact) => `\n      ${fact}`).join("")}
    model_info:
      id: ${id}${info.map((fact) => `\n      ${fact}`).join("")}`;
}

const models = [
  deployment("chat", "first", ["order: 1", "rpm: 1"]),
  deployment("chat", "second", ["order: 2", "max_parallel_requests: 3"]),
  deployment("chat", "paid", ["order: 1", "tags: [paid]"]),
  deployment("chat", "free", ["order: 3", "tags: [default]"]),
  deployment("tagged", "red", ["tags: [red]"]),
  deployment("tagged", "blue", ["tags: [blue]", "rpm: 1"]),
  deployment("small", "tiny", [], ["max_input_tokens: 5"]),
  deployment("small", "large", [], ["supports_function_calling: false"]),
  deployment("alone", "single", ["rpm: 1"]),
  deployment("spare", "spare-1"),
  deployment("long", "long-1"),
].join("");

const config = `
  routing_strategy: least-busy
  enable_tag_filtering: true
  enable_pre_call_checks: true
  fallbacks:
    - alone: [spare, missing]
    - spare: [tagged]
  context_window_fallbacks:
    - alone: [long]
`;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

describe("tollgate explain", () => {
  let stack: Stack;
  let directory: string;
  let key: string;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "tollgate-explain-"));
    stack = await Stack.start({ sidecars: 1, models, config });
    key = await stack.generateKey({ models: ["chat", "tagged", "small", "alone", "spare", "long"], max_budget: 10 });
  });
  after(async () => {
    await stack?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  async function run(args: readonly string[], token = masterKey): Promise<Ran> {
    let [out, err] = ["", ""];
    const code = await explain(["--sidecar", stack.sidecars[0]?.url ?? "", ...args], {
      stdout: { write: (text) => (out += text) },
      stderr: { write: (text) => (err += text) },
      settings: () => readSettings({ TOLLGATE_ADMIN_TOKEN: token }, "host-1"),
    });
    return { code, out, err };
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests look into documents of every shape, and assert what is there.
  async function json(args: readonly string[], token = masterKey): Promise<any> {
    const { code, out, err } = await run([...args, "--json"], token);
    assert.equal(code, 0, err);
    return JSON.parse(out);
  }

  // biome-ignore lint/suspicious/noExplicitAny: as above.
  const ids = (list: readonly any[]) => list.map(({ deployment: { id } }) => id);

  function file(name: string, text: string): string {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  }

  it("tags decide where a call goes, and the others are told why not", async () => {
    const { groups, tags, strategy } = await json(["tagged", "--tag", "red"]);
    assert.equal(strategy, "least-busy");
    assert.deepEqual(tags, ["red"]);
    assert.deepEqual(ids(groups[0].tried), ["red"]);
    assert.deepEqual(ids(groups[0].excluded), ["blue"]);
    assert.deepEqual([groups[0].excluded[0].reason, groups[0].excluded[0].retry_after], ["tags", undefined]);
    const none = await json(["tagged", "--tag", "green"]);
    assert.deepEqual(none.groups[0].tried, []);
    assert.equal(none.groups[0].refusal.code, "model_not_allowed");
  });

  it("a key's own tags count, and its order is that of real calls", async () => {
    const paid = await stack.generateKey({ tags: ["paid"] });
    const { groups, tags } = await json(["chat", "--key-file", file("paid", `${paid}\n`)]);
    assert.deepEqual([tags, ids(groups[0].tried)], [["paid"], ["paid"]]);
    const answer = await stack.chat(0, paid, { model: "chat" });
    assert.equal(answer.headers.get("x-litellm-model-id"), "paid");
  });

  it("a limit that is used up is told with its end, explaining takes nothing of it, and the fallbacks follow", async () => {
    for (let times = 0; times < 3; times++) {
      const { groups } = await json(["alone"], key);
      assert.deepEqual(ids(groups[0].tried), ["single"]);
    }
    assert.equal((await stack.chat(0, key, { model: "alone" })).headers.get("x-litellm-model-id"), "single");
    const explained = await json(["alone"], key);
    const [alone, spare, tagged, ...rest] = explained.groups;
    assert.deepEqual(rest, []);
    assert.deepEqual([alone.tried, ids(alone.excluded)], [[], ["single"]]);
    assert.equal(alone.excluded[0].reason, "limit");
    assert.match(alone.excluded[0].detail, /^no room within its 1 requests a minute until \d\d:\d\d:\d\d UTC$/);
    const seconds = Number.parseFloat(alone.excluded[0].retry_after);
    assert.ok(seconds > 30 && seconds <= 62, alone.excluded[0].retry_after);
    assert.equal(alone.refusal.code, "deployments_full");
    assert.deepEqual([spare.model, ids(spare.tried)], ["spare", ["spare-1"]]);
    assert.deepEqual([tagged.model, ids(tagged.tried).toSorted()], ["tagged", ["blue", "red"]]);
    assert.deepEqual(explained.context_window_fallbacks, ["long"]);
    assert.deepEqual(explained.content_policy_fallbacks, ["spare", "tagged"]);
    const next = await stack.chat(0, key, { model: "alone" });
    assert.equal(next.headers.get("x-litellm-model-id"), "spare-1", "as the explanation said");
  });

  it("a body decides: too long for one, with tools for the other", async () => {
    const messages = [{ role: "user", content: "one two three four five six seven eight nine ten" }];
    const long = await json(["small", "--body-file", file("long.json", JSON.stringify({ messages }))]);
    assert.deepEqual(ids(long.groups[0].tried), ["large"]);
    assert.equal(long.groups[0].excluded[0].reason, "context_window");
    const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
    const both = await json(["small", "--body-file", file("both.json", JSON.stringify({ messages, tools }))]);
    assert.deepEqual(both.groups[0].excluded.map(({ reason }: { reason: string }) => reason).toSorted(), [
      "context_window",
      "unsupported",
    ]);
    assert.equal(both.groups[0].refusal.code, "context_length_exceeded");
  });

  it("a deployment that cools is told with why and until when", async () => {
    const answer = await stack.chat(0, masterKey, { model: "bad-key" });
    assert.equal(answer.status, 502);
    const { groups } = await json(["bad-key"]);
    assert.deepEqual([groups[0].tried, groups[0].excluded[0].reason], [[], "cooling"]);
    assert.match(groups[0].excluded[0].detail, /^cooling until \d\d:\d\d:\d\d UTC after provider_auth_failed$/);
    assert.equal(groups[0].refusal.code, "provider_unavailable");
  });

  it("the caller's limits and budgets are looked at, and nothing is taken of them", async () => {
    const limited = await stack.generateKey({ rpm_limit: 1 });
    await json(["long"], limited);
    assert.equal((await stack.chat(0, limited, { model: "long" })).status, 200);
    assert.equal((await json(["long"], limited)).groups[0].refusal.code, "rate_limit_exceeded");
    const poor = await stack.generateKey({ max_budget: 0.000001 });
    const { groups } = await json(["long"], poor);
    assert.equal(groups[0].refusal.code, "budget_exceeded");
    assert.match(groups[0].refusal.message, /Max budget: \$0.000001/);
    assert.deepEqual(await stack.spent(poor), { spent: 0n, reserved: 0n });
  });

  it("a key may ask for itself only, and what it may not call it is not told of", async () => {
    const other = await stack.generateKey({});
    const denied = await run(["chat", "--key-file", file("other", other)], key);
    assert.deepEqual([denied.code, denied.out], [77, ""]);
    assert.match(denied.err, /Only the master key may do this/);
    assert.doesNotMatch(denied.err, new RegExp(other));
    const unlisted = await run(["bad-key"], key);
    assert.deepEqual([unlisted.code, unlisted.out], [77, ""]);
    assert.match(unlisted.err, /not available for this API key/);
    assert.match((await run(["nothing-there"])).err, /Invalid model name/);
    assert.equal((await run(["chat"], "sk-nobody")).code, 77);
  });

  it("the program finds its sidecar by TOLLGATE_PORT", async () => {
    const env = { TOLLGATE_ADMIN_TOKEN: masterKey, TOLLGATE_PORT: new URL(stack.sidecars[0]?.url ?? "").port };
    const { stdout } = await promisify(execFile)(process.execPath, [main, "explain", "spare"], { env });
    assert.match(stdout, /^ +1 +spare-1 +openai\/spare-1 /m);
  });

  it("people get a table; a wrong command line is told of with 64, a sidecar that is away with 69", async () => {
    const { code, out } = await run(["chat", "--tag", "paid"]);
    assert.equal(code, 0);
    assert.match(out, /^Key +key_master\nStrategy +least-busy\nTags +paid\n\nchat, 0 retries\n/);
    assert.match(out, /^ +1 +paid +openai\/paid +1 +0 +\d/m);
    assert.match(out, /^ +- +first +openai\/first .*tags: not for calls with the tags paid$/m);
    assert.equal((await run([])).code, 64);
    assert.equal((await run(["chat", "--body-file", file("bad.json", "[]")])).code, 64);
    assert.equal((await run(["chat", "--body-file", join(directory, "absent")])).code, 64);
    const wrong = await run(["chat", "--body-file", file("bad2.json", '{"messages":[]}')]);
    assert.deepEqual([wrong.code, /messages/.test(wrong.err)], [64, true], wrong.err);
    const away = await run(["chat", "--sidecar", "http://127.0.0.1:1"]);
    assert.equal(away.code, 69);
    assert.match(away.err, /Is a sidecar running at http:\/\/127.0.0.1:1\? --sidecar says where to look/);
  });
});
