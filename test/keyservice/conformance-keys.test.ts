/** LiteLLM's documented fields of keys, one by one: what is sent is what both faces answer, and null clears it. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Json, JsonObject } from "../../src/completion.ts";
import type { Key } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
  await post("/budget/new", { budget_id: "shared", max_budget: 3 });
  await stage.teams("t1");
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const post = async (path: string, body: JsonObject) => {
  const answer = await stage.http("POST", path, body);
  assert.equal(answer.status, 200, `${path} ${JSON.stringify(answer.body)}`);
  return answer.body;
};
const infoOf = async (key: string) => (await stage.http("GET", `/key/info?key=${key}`)).body.info;
const messageOf = async (key: string): Promise<Key> => {
  const { key: message } = await stage.keyAdmin.getKey({ key });
  assert.ok(message);
  return message;
};

/** A field of LiteLLM's, and the same in a message. */
interface Field {
  readonly name: string;
  readonly value: Json;
  readonly cleared: Json;
  /** What stands in a message for it, and for nothing. */
  readonly rpc: readonly [field: keyof Key, value: unknown, cleared: unknown];
  /** Sent with it. */
  readonly beside?: JsonObject;
}

const active: readonly Field[] = [
  { name: "key_alias", value: "by field", cleared: null, rpc: ["alias", "by field", undefined] },
  { name: "models", value: ["gpt-4o", "claude-*"], cleared: [], rpc: ["models", ["gpt-4o", "claude-*"], []] },
  { name: "aliases", value: { fast: "mini" }, cleared: {}, rpc: ["aliases", { fast: "mini" }, {}] },
  { name: "max_budget", value: 12.5, cleared: null, rpc: ["maxBudgetUsd", "12.5", undefined] },
  { name: "soft_budget", value: 0.1, cleared: null, rpc: ["softBudgetUsd", "0.1", undefined] },
  { name: "budget_duration", value: "30d", cleared: null, rpc: ["budgetDuration", "30d", undefined] },
  { name: "budget_id", value: "shared", cleared: null, rpc: ["budgetId", "shared", undefined] },
  { name: "rpm_limit", value: 100, cleared: null, rpc: ["rpmLimit", 100n, undefined] },
  { name: "tpm_limit", value: 0, cleared: null, rpc: ["tpmLimit", 0n, undefined] },
  { name: "max_parallel_requests", value: 7, cleared: null, rpc: ["maxParallelRequests", 7n, undefined] },
  { name: "user_id", value: "u1", cleared: null, rpc: ["userId", "u1", undefined] },
  { name: "team_id", value: "t1", cleared: null, rpc: ["teamId", "t1", undefined] },
  { name: "organization_id", value: "o1", cleared: null, rpc: ["organizationId", "o1", undefined] },
  { name: "metadata", value: { a: [1, null, "x"] }, cleared: {}, rpc: ["metadata", { a: [1, null, "x"] }, {}] },
  { name: "tags", value: ["a", "b"], cleared: [], rpc: ["tags", ["a", "b"], []] },
  { name: "blocked", value: true, cleared: false, rpc: ["blocked", true, false] },
  { name: "allowed_routes", value: ["/v1/*"], cleared: [], rpc: ["allowedRoutes", ["/v1/*"], []] },
  { name: "enforced_params", value: ["user"], cleared: [], rpc: ["enforcedParams", ["user"], []] },
  {
    name: "temp_budget_increase",
    value: 5,
    cleared: null,
    rpc: ["tempBudgetIncreaseUsd", "5", undefined],
    beside: { temp_budget_expiry: "2100-01-01T00:00:00Z" },
  },
  {
    name: "model_max_budget",
    value: { "gpt-4o": { budget_limit: 1, time_period: "1d" } },
    cleared: {},
    rpc: ["modelBudgets", [{ model: "gpt-4o", budgetDuration: "1d", maxBudgetUsd: "1" }], []],
  },
];

/** What a message holds, without what marks it as one. */
const plain = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(plain)
    : typeof value === "object" && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .filter(([name]) => !name.startsWith("$"))
            .map(([name, part]) => [name, plain(part)]),
        )
      : value;

describe("each field of a key that acts", () => {
  for (const { name, value, cleared, rpc, beside } of active) {
    const [field, written, nothing] = rpc;
    test(`${name}: generate, info, list and gRPC say what was sent; update sets it, and null clears it`, async () => {
      const made = await post("/key/generate", { [name]: value, ...beside });
      const hasIt = async (key: string) => {
        assert.deepEqual((await infoOf(key))[name], value);
        assert.deepEqual(plain((await messageOf(key))[field]), written);
      };
      assert.deepEqual(made[name], value);
      await hasIt(made.key_id);
      const list = await stage.http("GET", `/key/list?key_hash=${made.key_id}&return_full_object=true`);
      assert.deepEqual(list.body.keys[0][name], value);
      const gone = await post("/key/update", { key: made.key, [name]: null, ...nulled(beside) });
      assert.deepEqual(gone[name], cleared);
      assert.deepEqual((await infoOf(made.key))[name], cleared);
      assert.deepEqual(plain((await messageOf(made.key_id))[field]), nothing);
      assert.deepEqual((await post("/key/update", { key: made.key, [name]: value, ...beside }))[name], value);
      await hasIt(made.key_id);
      await post("/key/delete", { keys: [made.key] });
    });
  }

  const settable = active.filter(({ name }) => name !== "blocked" && name !== "temp_budget_increase");
  test("gRPC sets what HTTP shows, and an update_mask clears it", async () => {
    for (const { name, value, cleared, rpc } of settable) {
      const [field, written, nothing] = rpc;
      const { key } = await stage.keyAdmin.createKey({ key: { [field]: written } });
      assert.ok(key);
      assert.deepEqual((await infoOf(key.id))[name], value, name);
      const updated = await stage.keyAdmin.updateKey({ key: { id: key.id }, updateMask: { paths: [String(field)] } });
      assert.deepEqual(plain(updated.key?.[field]), nothing, name);
      assert.deepEqual((await infoOf(key.id))[name], cleared, name);
      await stage.keyAdmin.deleteKey({ key: key.id });
    }
  });
});

function nulled(fields: JsonObject | undefined): JsonObject {
  return Object.fromEntries(Object.keys(fields ?? {}).map((name) => [name, null]));
}

test("budget_limits: two windows at once come back with their standings, by both faces, and null clears them", async () => {
  const budget_limits = [
    { budget_duration: "1d", max_budget: 5 },
    { budget_duration: "30d", max_budget: 50 },
  ];
  const made = await post("/key/generate", { budget_limits });
  const { budget_limits: shown } = await infoOf(made.key);
  assert.deepEqual(
    shown.map(({ reset_at, ...window }: JsonObject) => {
      assert.match(String(reset_at), /T00:00:00.000Z$/);
      return window;
    }),
    budget_limits.map((window) => ({ ...window, spent: 0, reserved: 0 })),
  );
  assert.deepEqual(
    (await messageOf(made.key_id)).budgetWindows.map(({ budgetDuration, maxBudgetUsd }) => [
      budgetDuration,
      maxBudgetUsd,
    ]),
    [
      ["1d", "5"],
      ["30d", "50"],
    ],
  );
  assert.equal((await post("/key/update", { key: made.key, budget_limits: null })).budget_limits, null);
  assert.deepEqual((await messageOf(made.key_id)).budgetWindows, []);
});

test("duration becomes expires; -1 and null are for ever", async () => {
  for (const forever of ["-1", null]) {
    const made = await post("/key/generate", { duration: "1h" });
    assert.ok(Math.abs(Date.parse(made.expires) - Date.parse(made.created_at) - 3_600_000) < 5_000);
    const { expireTime } = await messageOf(made.key_id);
    assert.equal(Number(expireTime?.seconds), Math.floor(Date.parse(made.expires) / 1_000));
    assert.equal((await post("/key/update", { key: made.key, duration: forever })).expires, null);
    assert.equal((await messageOf(made.key_id)).expireTime, undefined);
  }
});

/** LiteLLM's fields that are kept, given back, and named in a header as doing nothing. */
const inactive: JsonObject = {
  config: { a: 1 },
  permissions: { get_spend_routes: true },
  allowed_passthrough_routes: ["/x"],
  guardrails: ["pii"],
  policies: ["p"],
  prompts: ["q"],
  object_permission: { vector_stores: ["v"] },
  access_group_ids: ["g"],
  rpm_limit_type: "guaranteed_throughput",
  tpm_limit_type: "dynamic",
  rotation_interval: "30d",
  send_invite_email: true,
  budget_fallbacks: { "gpt-4o": ["mini"] },
};

/** Those that act. */
const further: JsonObject = {
  allowed_cache_controls: ["no-cache"],
  model_rpm_limit: { "gpt-4o": 1 },
  model_tpm_limit: { "gpt-4o": 1 },
  router_settings: { num_retries: 1 },
};

test("fields that do not act come back from both faces, are named in a header, and null clears them", async () => {
  const all = { ...inactive, ...further };
  const made = await stage.http("POST", "/key/generate", all);
  assert.equal(made.status, 200);
  const named = made.headers.get("x-tollgate-inactive-fields")?.split(",").sort();
  assert.deepEqual(named, Object.keys(inactive).sort());
  const { extra } = await messageOf(made.body.key_id);
  const info = await infoOf(made.body.key);
  for (const [name, value] of Object.entries(all)) {
    assert.deepEqual([made.body[name], info[name], extra?.[name]], [value, value, value], name);
  }
  const cleared = await post("/key/update", { key: made.body.key, ...nulled(all) });
  for (const name of Object.keys(all)) assert.equal(cleared[name], null, name);
});

test("a service's key is of a team that exists, and no user's", async () => {
  await post("/team/new", { team_id: "svc" });
  const made = await post("/key/service-account/generate", { team_id: "svc", key_alias: "deployer" });
  assert.deepEqual([made.team_id, made.user_id, made.key_alias], ["svc", null, "deployer"]);
  const wrong: readonly [JsonObject, string][] = [
    [{}, "team_id"],
    [{ team_id: "nowhere" }, "team_id"],
    [{ team_id: "svc", user_id: "u1" }, "user_id"],
  ];
  for (const [body, param] of wrong) {
    const { status, body: answer } = await stage.http("POST", "/key/service-account/generate", body);
    assert.deepEqual([status, answer.error.param], [400, param], JSON.stringify(body));
  }
  const { key } = await stage.keyAdmin.createKey({ key: { teamId: "svc" }, ofService: true });
  assert.deepEqual([key?.teamId, key?.userId], ["svc", undefined]);
  await assert.rejects(stage.keyAdmin.createKey({ key: {}, ofService: true }), /`key.team_id` is missing/);
});

test("/key/health answers for the key that asks", async () => {
  const made = await post("/key/generate", {});
  const as = { authorization: `Bearer ${made.key}` };
  const { status, body } = await stage.http("POST", "/key/health", {}, as);
  assert.deepEqual([status, body], [200, { key: "healthy", logging_callbacks: null }]);
  await post("/key/block", { key: made.key });
  assert.equal((await stage.http("POST", "/key/health", {}, as)).status, 403);
});
