/** Budget windows as operators see them, over HTTP and gRPC. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { JsonObject } from "../../src/completion.ts";
import { findGrant } from "../../src/keyservice/grants.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { pepper, Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const two = [
  { budget_duration: "1d", max_budget: 1.5 },
  { budget_duration: "7d", max_budget: 5 },
];

async function make(fields: JsonObject): Promise<{ key: string; key_id: string } & JsonObject> {
  const { status, body } = await stage.http("POST", "/key/generate", fields);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

const infoOf = async (key: string) => (await stage.http("GET", `/key/info?key=${key}`)).body.info;

/** The budgets that bind a key's calls: duration and maximum. */
async function granted(key: string): Promise<string[]> {
  const grant = await findGrant(stage.postgres, digestSecret(key), pepper);
  return (grant?.budgets ?? []).map(({ duration, max }) => `${duration} ${max}`).sort();
}

test("windows are made with a key, shown with how they stand, and bind its calls", async () => {
  const made = await make({ max_budget: 20, budget_duration: "30d", budget_limits: two });
  await stage.sql(
    `INSERT INTO budget_periods (budget_id, period_start, spent_nanos, reserved_nanos)
     SELECT budget_id, date_trunc('day', now(), 'UTC'), 250000000, 500000000 FROM budgets
     WHERE scope_id = $1 AND duration = '1d'`,
    [made.key_id],
  );
  const info = await infoOf(made.key);
  const [day, week] = info.budget_limits;
  const midnight = new Date();
  midnight.setUTCHours(24, 0, 0, 0);
  assert.deepEqual(day, { ...two[0], spent: 0.25, reserved: 0.5, reset_at: midnight.toISOString() });
  assert.deepEqual({ ...week, reset_at: "" }, { ...two[1], spent: 0, reserved: 0, reset_at: "" });
  assert.equal(new Date(week.reset_at).getUTCDay(), 1);
  assert.deepEqual([info.max_budget, info.budget_duration, info.spend, info.reserved], [20, "30d", 0, 0]);
  assert.deepEqual(await granted(made.key), ["1d 1500000000", "30d 20000000000", "7d 5000000000"]);
  const { key } = await stage.keyAdmin.getKey({ key: made.key });
  assert.deepEqual(
    key?.budgetWindows.map((window) => [
      window.budgetDuration,
      window.maxBudgetUsd,
      window.spentUsd,
      window.reservedUsd,
    ]),
    [
      ["1d", "1.5", "0.25", "0.5"],
      ["7d", "5", "0", "0"],
    ],
  );
  const [first] = key?.budgetWindows ?? [];
  assert.ok(first?.resetTime !== undefined);
  assert.equal(timestampMs(first.resetTime), midnight.getTime());
  const unlimited = await make({});
  assert.equal(unlimited.budget_limits, null);
});

test("an update replaces the list, null and [] clear it, and absence leaves it", async () => {
  const { key } = await make({ budget_limits: two });
  const update = async (fields: JsonObject) => {
    const { status, body } = await stage.http("POST", "/key/update", { key, ...fields });
    assert.equal(status, 200, JSON.stringify(body));
    const limits: { budget_duration: string; max_budget: number }[] = body.budget_limits ?? [];
    return limits.map((limit) => `${limit.budget_duration} ${limit.max_budget}`);
  };
  assert.deepEqual(await update({ rpm_limit: 3 }), ["1d 1.5", "7d 5"]);
  const order = [
    { budget_duration: "7d", max_budget: "6.25" },
    { budget_duration: "1h", max_budget: 0 },
  ];
  assert.deepEqual(await update({ budget_limits: order }), ["7d 6.25", "1h 0"]);
  assert.deepEqual(await granted(key), ["1h 0", "7d 6250000000", "null undefined"]);
  assert.deepEqual(await update({ budget_limits: [] }), []);
  assert.deepEqual(await update({ budget_limits: two }), ["1d 1.5", "7d 5"]);
  assert.deepEqual(await update({ budget_limits: null }), []);
  assert.deepEqual(await granted(key), ["null undefined"]);
  const blocked = await stage.http("POST", "/key/block", { key });
  assert.equal(blocked.body.budget_limits, null);
});

test("a change of windows reaches sidecars like any other change", async () => {
  const { key, key_id } = await make({});
  await stage.http("POST", "/key/update", { key, budget_limits: two });
  const changes = await stage.sql("SELECT 1 FROM changes WHERE entity_id = $1", [key_id]);
  assert.equal(changes.length, 2);
});

test("metadata.monthly_budget is a window of a month, in dollars", async () => {
  const { key } = await make({ metadata: { monthly_budget: 200, team: "x" }, budget_limits: two });
  const windows = async () => ((await infoOf(key)).budget_limits ?? []).map(Object.values);
  const [, , month] = (await infoOf(key)).budget_limits;
  assert.deepEqual([month.budget_duration, month.max_budget, month.from_metadata], ["1mo", 200, true]);
  assert.deepEqual(await granted(key), ["1d 1500000000", "1mo 200000000000", "7d 5000000000", "null undefined"]);
  // What info says can be sent back.
  const { budget_limits, metadata } = await infoOf(key);
  assert.equal((await stage.http("POST", "/key/update", { key, budget_limits, metadata })).status, 200);
  assert.equal((await windows()).length, 3);
  await stage.http("POST", "/key/update", { key, metadata: { monthly_budget: "0.5" } });
  assert.ok((await granted(key)).includes("1mo 500000000"));
  await stage.http("POST", "/key/update", { key, metadata: { team: "x" } });
  assert.deepEqual(await granted(key), ["1d 1500000000", "7d 5000000000", "null undefined"]);
  // It may become one of budget_limits, and keeps its row.
  const limits = [{ budget_duration: "1mo", max_budget: 3 }];
  await stage.http("POST", "/key/update", { key, budget_limits: limits, metadata: { monthly_budget: null } });
  assert.deepEqual(await granted(key), ["1mo 3000000000", "null undefined"]);
  assert.equal("from_metadata" in (await infoOf(key)).budget_limits[0], false);
});

test("windows are set by gRPC, as a whole, and what GetKey returns can be sent back", async () => {
  const { key: made, secret } = await stage.keyAdmin.createKey({
    key: {
      maxBudgetUsd: "10",
      budgetWindows: [
        { budgetDuration: "1d", maxBudgetUsd: "0.000000001" },
        { budgetDuration: "1h", maxBudgetUsd: "0" },
      ],
      metadata: { monthly_budget: 7 },
    },
  });
  assert.ok(made !== undefined);
  assert.deepEqual(await granted(secret), ["1d 1", "1h 0", "1mo 7000000000", "null 10000000000"]);
  assert.deepEqual(
    made.budgetWindows.map((window) => [window.budgetDuration, window.fromMetadata]),
    [
      ["1d", false],
      ["1h", false],
      ["1mo", true],
    ],
  );
  const { key: same } = await stage.keyAdmin.updateKey({ key: made });
  assert.deepEqual(same?.budgetWindows, made.budgetWindows);
  const { key: less } = await stage.keyAdmin.updateKey({
    key: { id: made.id, budgetWindows: [{ budgetDuration: "1h", maxBudgetUsd: "2" }] },
  });
  assert.deepEqual(
    less?.budgetWindows.map((window) => window.maxBudgetUsd),
    ["2", "7"],
  );
  const { key: none } = await stage.keyAdmin.updateKey({
    key: { id: made.id },
    updateMask: { paths: ["budget_windows", "metadata"] },
  });
  assert.deepEqual(none?.budgetWindows, []);
  assert.deepEqual(await granted(secret), ["null 10000000000"]);
});

const day = { budget_duration: "1d", max_budget: 1 };
const month = { budget_duration: "1mo", max_budget: 1 };

/** What is wrong, which field the error names, and a word of its message. */
const wrong: readonly [JsonObject, string, RegExp][] = [
  [{ budget_limits: "1d" }, "budget_limits", /list of windows/],
  [{ budget_limits: { "1d": 5 } }, "budget_limits", /list of windows/],
  [{ budget_limits: [5] }, "budget_limits", /list of windows/],
  [{ budget_limits: [null] }, "budget_limits", /list of windows/],
  [{ budget_limits: [{}] }, "budget_limits", /`budget_duration` and `max_budget`/],
  [{ budget_limits: [{ budget_duration: "1d" }] }, "budget_limits", /`budget_duration` and `max_budget`/],
  [{ budget_limits: [{ budget_duration: "1d", max_budget: null }] }, "budget_limits", /`max_budget`/],
  [{ budget_limits: [{ budget_duration: null, max_budget: 1 }] }, "budget_limits", /`budget_duration`/],
  [{ budget_limits: [{ budget_duration: 1, max_budget: 1 }] }, "budget_limits", /`budget_duration`/],
  [{ budget_limits: [{ budget_duration: "soon", max_budget: 1 }] }, "budget_limits", /one of s, m, h, d, w, mo/],
  [{ budget_limits: [{ budget_duration: "0d", max_budget: 1 }] }, "budget_limits", /one of s, m, h, d, w, mo/],
  [{ budget_limits: [{ budget_duration: "1d\u0000", max_budget: 1 }] }, "budget_limits", /one of s, m, h, d, w, mo/],
  [{ budget_limits: [{ budget_duration: "1d", max_budget: "ten" }] }, "budget_limits", /dollars/],
  [{ budget_limits: [{ budget_duration: "1d", max_budget: -1 }] }, "budget_limits", /negative/],
  [{ budget_limits: [{ budget_duration: "1d", max_budget: 1e10 }] }, "budget_limits", /at most 1000000000/],
  [{ budget_limits: [day, { ...day, max_budget: 2 }] }, "budget_limits", /"1d" only once/],
  [
    { budget_limits: Array.from({ length: 17 }, (_, n) => ({ budget_duration: `${n + 1}h`, max_budget: 1 })) },
    "budget_limits",
    /at most 16/,
  ],
  [
    { budget_limits: [day], max_budget: 5, budget_duration: "1d" },
    "budget_limits",
    /main budget \(`budget_duration`\)/,
  ],
  [{ budget_limits: [month], metadata: { monthly_budget: 5 } }, "budget_limits", /`metadata\.monthly_budget`/],
  [
    { budget_duration: "1mo", metadata: { monthly_budget: 5 } },
    "metadata.monthly_budget",
    /main budget \(`budget_duration`\)/,
  ],
  [{ metadata: { monthly_budget: "lots" } }, "metadata.monthly_budget", /number of dollars/],
  [{ metadata: { monthly_budget: [5] } }, "metadata.monthly_budget", /number of dollars/],
  [{ metadata: { monthly_budget: true } }, "metadata.monthly_budget", /number of dollars/],
  [{ metadata: { monthly_budget: -5 } }, "metadata.monthly_budget", /negative/],
  [{ metadata: { monthly_budget: 1e300 } }, "metadata.monthly_budget", /number of dollars/],
];

test("a wrong window is a 400 that names it, in generate and in update, and changes nothing", async () => {
  const { key } = await make({ budget_limits: [day] });
  const before = await infoOf(key);
  for (const [fields, param, message] of wrong) {
    for (const [path, body] of [
      ["/key/generate", fields],
      ["/key/update", { ...fields, key }],
    ] as const) {
      const answer = await stage.http("POST", path, body);
      assert.equal(answer.status, 400, `${path} ${JSON.stringify(fields)} ${JSON.stringify(answer.body)}`);
      assert.equal(answer.body.error.param, param, JSON.stringify(answer.body));
      assert.match(answer.body.error.message, message);
    }
  }
  assert.deepEqual(await infoOf(key), before);
});

test("what collides with a window the key has is refused as well", async () => {
  const { key } = await make({ max_budget: 5, budget_duration: "7d", budget_limits: [day, month] });
  const update = async (fields: JsonObject) => {
    const { status, body } = await stage.http("POST", "/key/update", { key, ...fields });
    return [status, body.error?.param];
  };
  assert.deepEqual(await update({ budget_duration: "1d" }), [400, "budget_limits"]);
  assert.deepEqual(await update({ metadata: { monthly_budget: 5 } }), [400, "budget_limits"]);
  assert.deepEqual(await update({ budget_limits: [{ budget_duration: "7d", max_budget: 1 }] }), [400, "budget_limits"]);
  assert.deepEqual(await update({ budget_duration: "1d", budget_limits: [month] }), [200, undefined]);
});

test("gRPC refuses the same, in its own words", async () => {
  const good = { budgetDuration: "1d", maxBudgetUsd: "1" };
  for (const budgetWindows of [
    [{}],
    [{ budgetDuration: "1d" }],
    [{ maxBudgetUsd: "1" }],
    [{ budgetDuration: "soon", maxBudgetUsd: "1" }],
    [{ budgetDuration: "1d", maxBudgetUsd: "1e3" }],
    [{ budgetDuration: "1d", maxBudgetUsd: "-1" }],
    [good, good],
    Array.from({ length: 18 }, (_, n) => ({ budgetDuration: `${n + 1}h`, maxBudgetUsd: "1" })),
  ]) {
    await assert.rejects(stage.keyAdmin.createKey({ key: { budgetWindows } }), (error) => {
      assert.ok(error instanceof ConnectError && error.code === Code.InvalidArgument, String(error));
      assert.match(error.message, /budget_windows/);
      return true;
    });
  }
});
