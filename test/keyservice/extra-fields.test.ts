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

const wrong: readonly [string, JsonObject[string]][] = [
  ["model_rpm_limit", 5],
  ["model_rpm_limit", [{ "gpt-4o": 5 }]],
  ["model_rpm_limit", { "gpt-4o": "many" }],
  ["model_tpm_limit", { "gpt-4o": -1 }],
  ["model_tpm_limit", { "gpt-4o": 1.5 }],
  ["model_tpm_limit", { "": 5 }],
  ["model_tpm_limit", { ["x".repeat(300)]: 5 }],
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
