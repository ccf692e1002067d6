import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FaultProxy } from "../faults/proxy.ts";
import { masterKey, Stack } from "./stack.ts";

describe("metrics with require_auth_for_metrics_endpoint", () => {
  let database: FaultProxy;
  let stack: Stack;
  let urls: readonly string[];
  before(async () => {
    const cluster = new URL(process.env.TOLLGATE_TEST_POSTGRES_URL ?? "postgresql://127.0.0.1");
    database = await FaultProxy.start(Number(cluster.port || 5432));
    const config = "litellm_settings: { require_auth_for_metrics_endpoint: true }";
    stack = await Stack.start({ sidecars: 1, config, databasePort: database.port });
    urls = [`${stack.sidecars[0]?.adminUrl}/metrics`, `${stack.keyServiceUrl}/metrics`];
  });
  after(async () => {
    database.mode = "pass";
    await stack.close();
    await database.close();
  });

  /** What the sidecar and the KeyService answer. */
  const ask = (key?: string) =>
    Promise.all(
      urls.map((url) => fetch(url, key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } })),
    );
  const statuses = async (key?: string) => (await ask(key)).map(({ status }) => status);

  test("nobody reads them without a key, and probes need none", async () => {
    for (const answer of await ask()) {
      assert.equal(answer.status, 401);
      assert.equal(answer.headers.get("www-authenticate"), "Bearer");
      assert.equal(await answer.text(), "Metrics are read with a key here: `authorization: Bearer sk-...`.\n");
    }
    assert.deepEqual(await statuses("sk-guessed-guessed-guessed"), [401, 401]);
    assert.equal((await fetch(`${stack.sidecars[0]?.adminUrl}/readyz`)).status, 200);
  });

  test("the master key reads them, and a key that was made for it; no other", async () => {
    for (const answer of await ask(masterKey)) {
      assert.equal(answer.status, 200);
      assert.match(await answer.text(), /^tollgate_build_info\{/m);
    }
    assert.deepEqual(await statuses(await stack.generateKey({ allowed_routes: ["/metrics"] })), [200, 200]);
    for (const allowed_routes of [[], ["*"], ["llm_api_routes"]])
      assert.deepEqual(await statuses(await stack.generateKey({ allowed_routes })), [403, 403], allowed_routes.join());
    const [refused] = await ask(await stack.generateKey());
    assert.match((await refused?.text()) ?? "", /has `\/metrics` in its allowed_routes/);
  });

  test("a key that is blocked reads them no more", async () => {
    const key = await stack.generateKey({ allowed_routes: ["/metrics"] });
    assert.deepEqual(await statuses(key), [200, 200]);
    await stack.admin("POST", "/key/block", { key });
    let now = await statuses(key);
    for (let tries = 0; now[0] !== 403 && tries < 100; tries++) {
      await sleep(50);
      now = await statuses(key);
    }
    assert.deepEqual(now, [403, 403]);
  });

  test("only administrators make such keys", async () => {
    const { body: user } = await stack.admin("POST", "/user/new", { user_id: "u-1", user_role: "internal_user" });
    const make = async (fields: object) => {
      const answer = await fetch(`${stack.keyServiceUrl}/key/generate`, {
        method: "POST",
        headers: { authorization: `Bearer ${user.key}`, "content-type": "application/json" },
        body: JSON.stringify(fields),
      });
      return [answer.status, await answer.text()] as const;
    };
    assert.equal((await make({ allowed_routes: ["llm_api_routes"] }))[0], 200);
    const [status, text] = await make({ allowed_routes: ["llm_api_routes", "/metrics"] });
    assert.equal(status, 403, text);
    assert.match(text, /Only administrators may let a key read metrics/);
  });

  test("while the database is away, whoever read them before goes on; of others nothing is known", async () => {
    const [known, fresh] = [
      await stack.generateKey({ allowed_routes: ["/metrics"] }),
      await stack.generateKey({ allowed_routes: ["/metrics"] }),
    ];
    assert.deepEqual(await statuses(known), [200, 200]);
    database.mode = "refuse";
    assert.deepEqual(await statuses(known), [200, 200]);
    assert.deepEqual(await statuses(fresh), [503, 503]);
    assert.deepEqual(await statuses(masterKey), [200, 200]);
    database.mode = "pass";
  });
});
