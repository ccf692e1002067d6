/** What acts of the further fields of keys and teams: checked when it is written, and told to sidecars. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code } from "@connectrpc/connect";
import type { JsonObject } from "../../src/completion.ts";
import { EntityKind } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { findGrant } from "../../src/keyservice/grants.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { assertFails, pepper, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

async function post(path: string, body: JsonObject) {
  const answer = await stage.http("POST", path, body);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body;
}

const grantOf = async (key: string) => {
  const grant = await findGrant(stage.postgres, digestSecret(key), pepper);
  assert.ok(grant);
  return grant;
};

test("limits by model of a key and its team are in the key's grant, and change with them", async () => {
  await post("/team/new", { team_id: "search", model_rpm_limit: { "gpt-*": 5 } });
  const made = await post("/key/generate", {
    team_id: "search",
    model_rpm_limit: { "gpt-4o": 3 },
    model_tpm_limit: { "gpt-4o": 1000, mini: 0 },
  });
  // The database keeps the members of an object in an order of its own.
  const limits = async () =>
    (await grantOf(made.key)).limits.map((l) => [l.scope, l.scopeId, l.model, l.kind, l.ceiling]).sort();
  const team = ["model_per_team", "search:gpt-*", "gpt-*", "requests", 5n];
  const own = (model: string, kind: string, ceiling: bigint) => {
    return ["model_per_key", `${made.key_id}:${model}`, model, kind, ceiling];
  };
  assert.deepEqual(await limits(), [
    own("gpt-4o", "requests", 3n),
    own("gpt-4o", "tokens", 1000n),
    own("mini", "tokens", 0n),
    team,
  ]);
  await post("/key/update", { key: made.key, model_tpm_limit: null, model_rpm_limit: { mini: 1 } });
  assert.deepEqual(await limits(), [own("mini", "requests", 1n), team]);
  await post("/team/update", { team_id: "search", model_rpm_limit: null });
  assert.deepEqual(await limits(), [own("mini", "requests", 1n)]);
});

test("router settings of a key go before its team's, setting by setting, and only those that act are told", async () => {
  const fallbacks = [{ "gpt-4o": ["mini"] }];
  await post("/team/new", {
    team_id: "own",
    router_settings: { fallbacks, num_retries: 4, routing_strategy: "least-busy" },
  });
  const made = await post("/key/generate", { team_id: "own", router_settings: { num_retries: 1, timeout: null } });
  const settings = async () => (await grantOf(made.key)).routerSettings;
  assert.deepEqual(await settings(), { fallbacks, num_retries: 1 });
  await post("/key/update", { key: made.key, router_settings: { timeout: 2.5 } });
  assert.deepEqual(await settings(), { fallbacks, num_retries: 4, timeout: 2.5 });
  await post("/team/update", { team_id: "own", router_settings: null });
  assert.deepEqual(await settings(), { timeout: 2.5 });
  await post("/key/update", { key: made.key, router_settings: null });
  assert.equal(await settings(), undefined);
});

test("a complaint about router settings says where and what to write", async () => {
  const complaint = async (router_settings: JsonObject) =>
    (await stage.http("POST", "/key/generate", { router_settings })).body.error.message;
  assert.match(
    await complaint({ fallbacks: [{ a: "b" }] }),
    /^`router_settings` is wrong at fallbacks\[0\]\.a: write a list/,
  );
  assert.match(
    await complaint({ num_retrys: 1 }),
    /has no "num_retrys"\. Of a key or a team act num_retries, timeout, /,
  );
});

const wrong: readonly [string, JsonObject[string]][] = [
  ["model_rpm_limit", 5],
  ["model_rpm_limit", [{ "gpt-4o": 5 }]],
  ["model_rpm_limit", { "gpt-4o": "many" }],
  ["model_tpm_limit", { "gpt-4o": -1 }],
  ["model_tpm_limit", { "gpt-4o": 1.5 }],
  ["model_tpm_limit", { "": 5 }],
  ["model_tpm_limit", { ["x".repeat(300)]: 5 }],
  ["router_settings", "often"],
  ["router_settings", [{ num_retries: 1 }]],
  ["router_settings", { num_retrys: 1 }],
  ["router_settings", { num_retries: -1 }],
  ["router_settings", { timeout: 0 }],
  ["router_settings", { fallbacks: ["mini"] }],
  ["router_settings", { context_window_fallbacks: [{ "gpt-4o": "mini" }] }],
  ["router_settings", { content_policy_fallbacks: [{ a: ["b"], c: ["d"] }] }],
  ["router_settings", { model_group_retry_policy: { "gpt-4o": { RateLimitErrorRetries: "x" } } }],
  ["router_settings", { model_group_retry_policy: { "gpt-4o": { RateLimitRetries: 1 } } }],
];

for (const [name, value] of wrong) {
  test(`${name}: ${JSON.stringify(value).slice(0, 80)} is refused in its name, of a key and of a team, at every face`, async () => {
    for (const path of ["/key/generate", "/team/new"]) {
      const { status, body } = await stage.http("POST", path, { [name]: value });
      assert.deepEqual([status, body.error.param], [400, name], JSON.stringify(body));
    }
    const extra = { [name]: value ?? null };
    await assertFails(stage.keyAdmin.createKey({ key: { extra } }), Code.InvalidArgument, "INVALID_REQUEST");
    const entity = { kind: EntityKind.TEAM, id: "t", extra };
    await assertFails(stage.entityAdmin.createEntity({ entity }), Code.InvalidArgument, "INVALID_REQUEST");
  });
}
