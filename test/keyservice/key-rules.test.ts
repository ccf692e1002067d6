import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import type { JsonObject } from "../../src/completion.ts";
import { assertFails, Stage } from "./admin-stage.ts";

const dayMs = 86_400_000;
const dollars = (amount: number) => BigInt(amount) * 1_000_000_000n;

describe("default_key_generate_params", () => {
  let stage: Stage;
  before(async () => {
    stage = await Stage.open({
      keyRules: {
        defaults: {
          maxBudget: dollars(5),
          budgetDuration: "7d",
          duration: "30d",
          rpmLimit: 60,
          tpmLimit: 1_000,
          maxParallelRequests: 3,
          models: ["gpt-4o-mini"],
          metadata: { setting: "default" },
          teamId: "core-infra",
        },
        bounds: {},
      },
    });
    await stage.teams("core-infra", "mine");
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  const filled: JsonObject = {
    ...{ max_budget: 5, budget_duration: "7d", rpm_limit: 60, tpm_limit: 1_000, max_parallel_requests: 3 },
    ...{ models: ["gpt-4o-mini"], metadata: { setting: "default" }, team_id: "core-infra" },
  };

  test("fill what a request leaves out, or sends as null or empty", async () => {
    for (const sent of [{}, { max_budget: null, rpm_limit: null, models: [], metadata: {}, duration: null }]) {
      const { status, body } = await stage.http("POST", "/key/generate", sent);
      assert.equal(status, 200);
      for (const [name, value] of Object.entries(filled)) assert.deepEqual(body[name], value, name);
      assert.ok(Math.abs(Date.parse(body.expires) - Date.parse(body.created_at) - 30 * dayMs) < 5_000);
    }
  });

  test("fill it over gRPC too, and an expire_time takes the place of the default duration", async () => {
    const seconds = BigInt(Math.floor(Date.now() / 1_000) + 3_600);
    const { key } = await stage.keyAdmin.createKey({ key: { rpmLimit: 7n, expireTime: { seconds, nanos: 0 } } });
    assert.deepEqual([key?.maxBudgetUsd, key?.rpmLimit, key?.teamId], ["5", 7n, "core-infra"]);
    assert.deepEqual([key?.models, key?.metadata], [["gpt-4o-mini"], { setting: "default" }]);
    assert.equal(key?.expireTime?.seconds, seconds);
  });

  test("leave alone what is said, zero included, and changes of keys that exist", async () => {
    const said = { max_budget: 0, rpm_limit: 0, models: ["m"], metadata: { a: 1 }, team_id: "mine", duration: "-1" };
    const { body } = await stage.http("POST", "/key/generate", said);
    assert.deepEqual([body.max_budget, body.rpm_limit, body.models, body.metadata], [0, 0, ["m"], { a: 1 }]);
    assert.deepEqual([body.team_id, body.expires], ["mine", null]);
    const { body: changed } = await stage.http("POST", "/key/update", { key: body.key, max_budget: null });
    assert.equal(changed.max_budget, null);
  });

  test("whom a key belongs to by default is no leave to make keys for others", async () => {
    const { body } = await stage.http("POST", "/user/new", { user_id: "outsider" });
    const as = { authorization: `Bearer ${(await ownKey(body.user_id)).key}` };
    assert.equal((await stage.http("POST", "/key/generate", { team_id: "core-infra" }, as)).status, 403);
  });

  const ownKey = async (user_id: string) => {
    const { body } = await stage.http("POST", "/key/generate", { user_id });
    return body;
  };
});

describe("upperbound_key_generate_params", () => {
  let stage: Stage;
  before(async () => {
    stage = await Stage.open({
      keyRules: {
        defaults: { rpmLimit: 50 },
        bounds: {
          maxBudget: dollars(100),
          budgetDuration: "10d",
          duration: "30d",
          rpmLimit: 100,
          tpmLimit: 1_000,
          maxParallelRequests: 5,
        },
      },
    });
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  const over: readonly [string, JsonObject[string], RegExp][] = [
    ["max_budget", 100.01, /`max_budget` must be at most 100: /],
    ["budget_duration", "11d", /at most 10d/],
    ["budget_duration", "1mo", /at most 10d/],
    ["rpm_limit", 101, /at most 100/],
    ["tpm_limit", 1_001, /at most 1000/],
    ["max_parallel_requests", 6, /at most 5/],
    ["duration", "31d", /at most 30d/],
    ["duration", "-1", /at most 30d/],
  ];

  test("refuse what passes them, in generate, update and regenerate, and say which", async () => {
    const { body: made } = await stage.http("POST", "/key/generate", {});
    for (const [name, value, message] of over) {
      for (const path of ["/key/generate", "/key/update", "/key/regenerate"]) {
        const { status, body } = await stage.http("POST", path, {
          ...(path === "/key/generate" ? {} : { key: made.key }),
          [name]: value,
        });
        assert.deepEqual([status, body.error.param, body.error.type], [400, name, "invalid_request_error"], path);
        assert.match(body.error.message, message);
        assert.match(body.error.message, /upperbound_key_generate_params/);
      }
    }
    const { info } = (await stage.http("GET", `/key/info?key=${made.key}`)).body;
    assert.deepEqual([info.max_budget, info.rotation_count], [100, 0]);
  });

  test("take what just fits", async () => {
    const fits = { max_budget: 100, budget_duration: "10d", rpm_limit: 100, tpm_limit: 1_000, duration: "30d" };
    assert.equal((await stage.http("POST", "/key/generate", fits)).status, 200);
  });

  test("are what a key gets that leaves them open; a default goes first", async () => {
    const { body } = await stage.http("POST", "/key/generate", { tpm_limit: null });
    assert.deepEqual(
      [body.max_budget, body.budget_duration, body.rpm_limit, body.tpm_limit, body.max_parallel_requests],
      [100, "10d", 50, 1_000, 5],
    );
    assert.ok(Math.abs(Date.parse(body.expires) - Date.parse(body.created_at) - 30 * dayMs) < 5_000);
  });

  test("are what a change to no limit comes to; a change of something else leaves them alone", async () => {
    const { body: made } = await stage.http("POST", "/key/generate", { max_budget: 1, duration: "1d" });
    const other = await stage.http("POST", "/key/update", { key: made.key, metadata: { a: 1 } });
    assert.deepEqual([other.body.max_budget, other.body.expires], [1, made.expires]);
    const { body } = await stage.http("POST", "/key/update", { key: made.key, max_budget: null, duration: null });
    assert.equal(body.max_budget, 100);
    assert.ok(Math.abs(Date.parse(body.expires) - Date.now() - 30 * dayMs) < 60_000);
  });

  test("hold for budgets that are raised for a time", async () => {
    const until = "2100-01-01";
    const temp = (temp_budget_increase: number) => ({ temp_budget_increase, temp_budget_expiry: until });
    const { body: made } = await stage.http("POST", "/key/generate", { max_budget: 90, ...temp(10) });
    assert.equal(made.temp_budget_increase, 10);
    for (const [path, sent] of [
      ["/key/generate", { max_budget: 90, ...temp(10.01) }],
      ["/key/update", { key: made.key, ...temp(11) }],
      ["/key/update", { key: made.key, max_budget: 91 }],
      ["/key/regenerate", { key: made.key, ...temp(11) }],
    ] as const) {
      const { status, body } = await stage.http("POST", path, sent);
      assert.deepEqual([status, body.error.param], [400, "temp_budget_increase"], JSON.stringify(sent));
    }
  });

  test("hold over gRPC too, by the names of its fields", async () => {
    const { key } = await stage.keyAdmin.createKey({ key: { alias: "by rpc" } });
    assert.deepEqual([key?.maxBudgetUsd, key?.rpmLimit, key?.budgetDuration], ["100", 50n, "10d"]);
    const late = { seconds: BigInt(Math.floor(Date.now() / 1_000) + 31 * 86_400), nanos: 0 };
    for (const wish of [{ maxBudgetUsd: "101" }, { rpmLimit: 101n }, { budgetDuration: "1mo" }, { expireTime: late }]) {
      await assertFails(stage.keyAdmin.createKey({ key: wish }), Code.InvalidArgument, "INVALID_REQUEST");
      await assertFails(
        stage.keyAdmin.updateKey({ key: { id: key?.id ?? "", ...wish } }),
        Code.InvalidArgument,
        "INVALID_REQUEST",
      );
    }
  });

  test("hold for the key that comes with a new user", async () => {
    const { body } = await stage.http("POST", "/user/new", { user_id: "bounded" });
    const { info } = (await stage.http("GET", `/key/info?key=${body.key}`)).body;
    assert.equal(info.max_budget, 100);
  });
});
