import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { goClient, grpcurl, pythonClient, skipWithout } from "../foreign-clients.ts";
import { words } from "../upstream.ts";
import { masterKey, Stack } from "./stack.ts";

const text = words.join("");
/** The first run installs packages and compiles. */
const timeout = 600_000;

describe("clients in other languages", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 1 });
  });
  after(() => stack.close());

  const sidecar = () => stack.sidecars[0]?.url ?? "";
  const address = () => new URL(sidecar()).host;

  test("a client generated for Python streams, and is told when its key is wrong", {
    skip: skipWithout("python3"),
    timeout,
  }, async () => {
    const run = await pythonClient();
    const key = await stack.generateKey({});
    const answer = await run("stream_client.py", [address(), key, "ok", "Hello"]);
    assert.deepEqual(answer, { kinds: ["started", "delta", "finished", "ended"], text, status: "OK" });
    const refused = await run("stream_client.py", [address(), "sk-unknown", "ok", "Hello"]);
    assert.deepEqual(refused, { kinds: [], text: "", status: "UNAUTHENTICATED" });
  });

  test("a client generated for Go streams, and is told when its key is wrong", {
    skip: skipWithout("go"),
    timeout,
  }, async () => {
    const run = await goClient();
    const key = await stack.generateKey({});
    assert.deepEqual(await run([address(), key, "ok", "Hello"]), { text, ended: true, status: "OK" });
    const refused = await run([address(), "sk-unknown", "ok", "Hello"]);
    assert.deepEqual(refused, { text: "", ended: false, status: "Unauthenticated" });
  });

  test("grpcurl lists, describes with doc comments, and completes", { skip: skipWithout("go"), timeout }, async () => {
    const run = await grpcurl();
    const key = await stack.generateKey({});
    const services = await run([address(), "list"]);
    for (const service of ["tollgate.completion.v1.CompletionService", "grpc.health.v1.Health"]) {
      assert.ok(services.split("\n").includes(service), services);
    }
    const described = await run([address(), "describe", "tollgate.completion.v1.CompletionService"]);
    assert.match(described, /\/\/ Complete returns the whole answer in one message\.\n\s+rpc Complete/);
    const chat = JSON.stringify({ chat: { model: "ok", messages: [{ role: "ROLE_USER", text: "Hello" }] } });
    const method = "tollgate.completion.v1.CompletionService/Complete";
    const answer = await run(["-H", `authorization: Bearer ${key}`, "-d", chat, address(), method]);
    assert.equal(JSON.parse(answer).choices[0].text, text);
  });

  test("grpcurl administers: a key with whitelist, budget and limits is made, used, blocked and then refused", {
    skip: skipWithout("go"),
    timeout,
  }, async () => {
    const run = await grpcurl();
    const keyService = new URL(stack.keyServiceUrl).host;
    const admin = async (method: string, request: object) =>
      JSON.parse(
        await run([
          ...["-H", `authorization: Bearer ${masterKey}`, "-d", JSON.stringify(request)],
          ...[keyService, `tollgate.admin.v1.KeyAdminService/${method}`],
        ]),
      );
    assert.match(
      await run([keyService, "describe", ".tollgate.admin.v1.Key"]),
      /\/\/ Requests a minute, over all pods\./,
    );
    const created = await admin("CreateKey", {
      key: { alias: "by-grpcurl", models: ["ok"], max_budget_usd: "2.5", budget_duration: "30d", rpm_limit: 5 },
    });
    assert.equal(created.key.maxBudgetUsd, "2.5");
    assert.equal((await stack.chat(0, created.secret)).status, 200);
    assert.equal((await stack.chat(0, created.secret, { model: "slow" })).status, 403);
    await admin("BlockKey", { key: "by-grpcurl" });
    let status = 200;
    for (const blockedAt = performance.now(); status === 200 && performance.now() - blockedAt < 1_000; ) {
      status = (await stack.chat(0, created.secret)).status;
    }
    assert.equal(status, 403, "refused within a second");
    assert.equal((await admin("GetKey", { key: "by-grpcurl" })).key.blocked, true);
  });
});
