import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { systemClock } from "../../src/clock.ts";
import { SpendDimension } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { writeCsv } from "../../src/keyservice/csv.ts";
import { Settlements, type SpendRecord } from "../../src/keyservice/settlements.ts";
import { masterKey, Stage } from "./admin-stage.ts";
import { spend } from "./books-stage.ts";

let stage: Stage;
const keys: Record<"team" | "solo", { key: string; id: string }> = {
  team: { key: "", id: "" },
  solo: { key: "", id: "" },
};

before(async () => {
  stage = await Stage.open();
  const team = await stage.http("POST", "/team/new", { team_id: "t1", team_alias: "=cmd()" });
  assert.equal(team.status, 200);
  for (const [name, fields] of [
    ["team", { team_id: "t1", user_id: "ada", key_alias: "of the team" }],
    ["solo", { user_id: "bob" }],
  ] as const) {
    const { body } = await stage.http("POST", "/key/generate", fields);
    keys[name] = { key: body.key, id: body.key_id };
  }
  const settlements = new Settlements({ postgres: stage.postgres, clock: systemClock, timeZone: "UTC" });
  const row = (id: string, day: string, cost: bigint, facts: Partial<SpendRecord> = {}) =>
    spend(id, cost, { startedAt: new Date(`${day}T12:00:00Z`), ...facts });
  await settlements.settle("pod", [
    row(keys.team.id, "2026-03-01", 1_500_000_000n, { endUser: "anna", tags: ["red", "blue"] }),
    row(keys.team.id, "2026-03-01", 500_000_000n, {
      model: "claude",
      provider: "anthropic",
      cacheReadInputTokens: 4n,
      tags: ["red"],
    }),
    row(keys.team.id, "2026-03-02", 250_000_001n, { status: "failure" }),
    row(keys.solo.id, "2026-03-02", 1n, { endUser: "anna" }),
    row(keys.solo.id, "2026-05-01", 7_000_000_000n),
  ]);
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const march = "start_date=2026-03-01&end_date=2026-03-31";
const get = async (path: string) => {
  const answer = await stage.http("GET", path);
  assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
};

test("LiteLLM's guide: the spend report by team, day by day, with keys and models", async () => {
  const days = await get(`/global/spend/report?${march}&group_by=team`);
  assert.deepEqual(
    days.map(({ group_by_day }: { group_by_day: string }) => group_by_day),
    ["2026-03-02T00:00:00+00:00", "2026-03-01T00:00:00+00:00"],
  );
  assert.deepEqual(days[1].teams, [
    {
      team_name: "=cmd()",
      team_id: "t1",
      total_spend: 2,
      metadata: [
        { model: "gpt-4", spend: 1.5, total_tokens: 30, api_key: keys.team.id },
        { model: "claude", spend: 0.5, total_tokens: 30, api_key: keys.team.id },
      ],
    },
  ]);
  assert.equal(days[0].teams.length, 2, "what belongs to no team is a group of its own");
});

test("the summary of tags counts each tag's calls and users, over gRPC too", async () => {
  const { results } = await get(`/tag/summary?${march}`);
  const red = { total_requests: 2, successful_requests: 2, failed_requests: 0, total_tokens: 60 };
  assert.deepEqual(results, [
    { tag: "red", unique_users: 1, ...red, total_spend: 2 },
    {
      tag: "blue",
      unique_users: 1,
      ...red,
      total_requests: 1,
      successful_requests: 1,
      total_tokens: 30,
      total_spend: 1.5,
    },
  ]);
  const filtered = await get(`/tag/summary?${march}&tag_filters=blue,green`);
  assert.deepEqual(
    filtered.results.map(({ tag }: { tag: string }) => tag),
    ["blue"],
  );
  const groupBy = [SpendDimension.TAG, SpendDimension.USER];
  const { sums } = await stage.spendAdmin.getSpendReport({ groupBy, startDay: "2026-03-01", endDay: "2026-03-31" });
  assert.deepEqual(
    sums.map(({ tag, userId, costUsd }) => [tag, userId, costUsd]),
    [
      ["red", "ada", "2"],
      ["blue", "ada", "1.5"],
    ],
  );
});

const groups: readonly [string, string, string, Record<string, number>][] = [
  ["customer", "customers", "customer", { anna: 1.500000001 }],
  ["api_key", "api_keys", "api_key", { team: 2.250000001, solo: 0.000000001 }],
  ["user", "users", "user", { ada: 2.250000001, bob: 0.000000001 }],
  ["tag", "tags", "tag", { red: 2, blue: 1.5 }],
  ["model", "models", "model", { gpt: 2.250000002 }],
];
for (const [group, list, name, expected] of groups) {
  test(`the spend report by ${group} sums up to what was booked`, async () => {
    const days = await get(`/global/spend/report?${march}&group_by=${group}`);
    const sums = new Map<string, number>();
    for (const day of days) {
      for (const entry of day[list])
        sums.set(entry[name], Math.round(((sums.get(entry[name]) ?? 0) + entry.total_spend) * 1e9) / 1e9);
    }
    const names: Record<string, string> = { team: keys.team.id, solo: keys.solo.id };
    for (const [id, total] of Object.entries(expected)) assert.equal(sums.get(names[id] ?? id), total, id);
  });
}

test("a report is filtered by team, key, customer and user", async () => {
  const total = async (filter: string) => {
    const days = await get(`/global/spend/report?${march}&group_by=api_key&${filter}`);
    return days
      .flatMap(({ api_keys }: { api_keys: { total_spend: number }[] }) => api_keys)
      .reduce((sum: number, one: { total_spend: number }) => sum + one.total_spend, 0);
  };
  assert.equal(await total("team_id=t1"), 2.250000001);
  assert.equal(await total(`api_key=${keys.solo.key}`), 1e-9);
  assert.equal(await total("customer_id=anna"), 1.500000001);
  assert.equal(await total("internal_user_id=bob"), 1e-9);
  assert.equal(await total("team_id=nobody"), 0);
});

test("an accountant gets CSV with exact amounts, and no formulas", async () => {
  const answer = await stage.http("GET", `/global/spend/report?${march}&group_by=team&format=csv`);
  assert.match(answer.headers.get("content-type") ?? "", /^text\/csv/);
  const lines = String(answer.body).split("\r\n");
  assert.equal(lines[0], "day,team_name,team_id,api_key,model,spend_usd,input_tokens,output_tokens,requests");
  assert.equal(lines[1], `2026-03-02,'=cmd(),t1,${keys.team.id},gpt-4,0.250000001,10,20,1`);
  assert.equal(lines.length, 1 + 4 + 1);
  for (const group of ["team", "customer", "api_key", "user", "organization", "tag", "model"]) {
    const { body } = await stage.http("GET", `/global/spend/report?${march}&group_by=${group}&format=csv`);
    const [columns = [], ...rows] = String(body)
      .trimEnd()
      .split("\r\n")
      .map((line) => line.split(","));
    assert.equal(new Set(columns).size, columns.length, `${columns}`);
    for (const row of rows) assert.equal(row.length, columns.length, `${row}`);
  }
});

/** One record of RFC 4180, character by character. */
function readCsvLine(text: string): string[] {
  const cells = [""];
  let isQuoted = false;
  for (let at = 0; at < text.length - "\r\n".length; at++) {
    const char = text.charAt(at);
    if (char === '"' && isQuoted && text.charAt(at + 1) === '"') at++;
    else if (char === '"') {
      isQuoted = !isQuoted;
      continue;
    } else if (char === "," && !isQuoted) {
      cells.push("");
      continue;
    }
    cells[cells.length - 1] += char;
  }
  return cells;
}

test("CSV cells are quoted so that they are read back as they were", () => {
  const cell = fc.string({ unit: fc.constantFrom('"', ",", "\n", "\r", "a", " ", "=", "-") });
  fc.assert(
    fc.property(fc.array(cell, { minLength: 2, maxLength: 4 }), (cells) => {
      const read = readCsvLine(writeCsv(["x"], [cells]).slice("x\r\n".length));
      assert.deepEqual(
        read.map((text) => text.replace(/^'(?=[=\-\r])/, "")),
        cells,
      );
    }),
  );
});

test("totals, tops, tags and activity", async () => {
  assert.deepEqual(await get("/global/spend"), { spend: 9.250000002, max_budget: 0 });
  assert.deepEqual(await get(`/global/spend/logs?${march}`), [
    { date: "2026-03-01", spend: 2 },
    { date: "2026-03-02", spend: 0.250000002 },
  ]);
  const [first] = await get(`/global/spend/keys?${march}&limit=1`);
  assert.deepEqual([first.api_key, first.key_alias, first.total_spend], [keys.team.id, "of the team", 2.250000001]);
  assert.deepEqual(
    (await get(`/global/spend/models?${march}`)).map(({ model }: { model: string }) => model),
    ["gpt-4", "claude"],
  );
  assert.deepEqual(
    (await get(`/global/spend/provider?${march}`)).map(({ provider }: { provider: string }) => provider),
    ["openai", "anthropic"],
  );
  assert.equal((await get(`/global/spend/teams?${march}`)).total_spend_per_team.length, 2);
  assert.deepEqual(
    (await get(`/spend/tags?${march}`)).map(
      ({ individual_request_tag, log_count, total_spend }: Record<string, unknown>) => [
        individual_request_tag,
        log_count,
        total_spend,
      ],
    ),
    [
      ["red", 2, 2],
      ["blue", 1, 1.5],
    ],
  );
  assert.deepEqual(await get("/global/spend/all_tag_names"), { tag_names: ["blue", "red"] });
  const customers = await stage.http("POST", "/global/spend/end_users", {});
  assert.deepEqual(customers.body, [{ end_user: "anna", total_spend: 1.500000001, total_count: 2 }]);
  const activity = await get(`/global/activity?${march}`);
  assert.deepEqual([activity.sum_api_requests, activity.sum_total_tokens, activity.daily_data.length], [4, 120, 2]);
  assert.equal((await get(`/global/activity/model?${march}`)).length, 1);
  assert.equal((await get(`/spend/users?${march}&user_id=ada`)).length, 1);
});

test("daily activity has metrics and breakdowns, in pages of days", async () => {
  const activity = await get(`/user/daily/activity?${march}`);
  assert.equal(activity.results.length, 2);
  const [last, first] = activity.results;
  assert.deepEqual(first.metrics, {
    ...{
      spend: 2,
      prompt_tokens: 20,
      completion_tokens: 40,
      cache_read_input_tokens: 4,
      cache_creation_input_tokens: 0,
    },
    ...{ total_tokens: 60, successful_requests: 2, failed_requests: 0, api_requests: 2 },
  });
  assert.deepEqual(Object.keys(first.breakdown.models).sort(), ["claude", "gpt-4"]);
  assert.equal(first.breakdown.api_keys[keys.team.id].metadata.key_alias, "of the team");
  assert.equal(first.breakdown.entities.ada.metrics.spend, 2);
  assert.equal(last.metrics.failed_requests, 1);
  assert.deepEqual(
    [activity.metadata.total_spend, activity.metadata.total_pages, activity.metadata.has_more],
    [2.250000002, 1, false],
  );
  const paged = await get(`/user/daily/activity?${march}&page_size=1&page=2`);
  assert.deepEqual(
    paged.results.map(({ date }: { date: string }) => date),
    ["2026-03-01"],
  );
  const team = await get(`/team/daily/activity?${march}&team_ids=t1`);
  assert.equal(team.metadata.total_spend, 2.250000001);
  const tag = await get(`/tag/daily/activity?${march}&tags=blue`);
  assert.equal(tag.metadata.total_spend, 1.5);
  assert.equal((await get(`/customer/daily/activity?${march}&end_user_ids=anna`)).metadata.total_api_requests, 2);
});

test("what is wrong with a report's question is a 400 that names it", async () => {
  for (const [path, param] of [
    ["/global/spend/report?group_by=colour", "group_by"],
    ["/global/spend/report?start_date=yesterday", "start_date"],
    ["/global/spend/report?start_date=2026-02-30", "start_date"],
    ["/global/spend/report?start_date=2026-03-02&end_date=2026-03-01", "start_date"],
    ["/user/daily/activity", "start_date"],
    ["/user/daily/activity?start_date=2026-03-01", "end_date"],
    ["/global/spend/keys?limit=0", "limit"],
    ["/global/spend/report?team_id=a%00", "team_id"],
    ["/global/spend/report?start_date=0000-01-01", "start_date"],
    ["/global/spend/report?team_id=a&team_id=b", "team_id"],
    ["/global/spend/report?format=pdf", "format"],
    ["/global/spend/report?group_by=tag&customer_id=anna", "customer_id"],
    [`/tag/daily/activity?${march}&customer_id=anna`, "customer_id"],
    ["/spend/tags?customer_id=anna", "customer_id"],
    ["/spend/users?user_id=ada&internal_user_id=bob", "internal_user_id"],
  ] as const) {
    const { status, body } = await stage.http("GET", path);
    assert.deepEqual([status, body.error.param], [400, param], path);
  }
  const unknown = await stage.http("GET", "/global/spend/report?api_key=sk-nobody-has-this-key");
  assert.equal(unknown.status, 404);
  const quoted = await stage.http(
    "GET",
    `/global/spend/report?team_id=${encodeURIComponent("a'; DROP TABLE keys; --")}`,
  );
  assert.deepEqual([quoted.status, quoted.body], [200, []]);
});

test("customers report's times are days that there are", async () => {
  for (const startTime of ["2026-02-30", "0000-01-01T00:00:00Z", "soon", 5, "2026-01-01\u0000"] as const) {
    const { status, body } = await stage.http("POST", "/global/spend/end_users", { startTime });
    assert.deepEqual([status, body.error.param], [400, "startTime"], `${startTime}`);
  }
});

test("the limit of a list counts those that are named, not what belongs to nobody", async () => {
  // Nobody's user is the dearest.
  const nobody = (await stage.http("POST", "/key/generate", {})).body.key_id;
  const startedAt = new Date("2020-01-01T12:00:00Z");
  const settlements = new Settlements({ postgres: stage.postgres, clock: systemClock, timeZone: "UTC" });
  await settlements.settle("pod", [
    spend(nobody, 9_000_000_000n, { startedAt }),
    spend(keys.solo.id, 5n, { startedAt }),
    spend(keys.team.id, 4n, { startedAt }),
  ]);
  const users = await get("/spend/users?start_date=2020-01-01&end_date=2020-01-01&limit=1");
  assert.deepEqual(
    users.map(({ user_id, spend: spent }: { user_id: string; spend: number }) => [user_id, spent]),
    [["bob", 5e-9]],
  );
  await stage.sql("DELETE FROM daily_spend WHERE day = '2020-01-01'");
});

test("what keys, users and tags spent is of all time; the dashboards' lists are of the last 30 days", async () => {
  // The sums are of March and May.
  stage.aheadMs = Date.parse("2026-12-01") - Date.now();
  try {
    assert.deepEqual(
      (await get("/spend/keys")).map(({ api_key }: { api_key: string }) => api_key),
      [keys.solo.id, keys.team.id],
    );
    assert.deepEqual(
      (await get("/spend/users")).map(({ user_id, spend: spent }: Record<string, unknown>) => [user_id, spent]),
      [
        ["bob", 7.000000001],
        ["ada", 2.250000001],
      ],
    );
    assert.equal((await get("/spend/tags")).length, 2);
    for (const list of ["keys", "models", "provider", "tags", "logs"]) {
      assert.deepEqual(await get(`/global/spend/${list}`), [], list);
    }
  } finally {
    stage.aheadMs = 0;
  }
});

test("daily activity and the lists answer in CSV, every page of them", async () => {
  const csv = await stage.http("GET", `/team/daily/activity?${march}&page_size=1`, undefined, {
    authorization: `Bearer ${masterKey}`,
    accept: "text/csv",
  });
  assert.deepEqual(String(csv.body).trimEnd().split("\r\n"), [
    "day,team_id,api_key,key_alias,model_group,model,provider,spend_usd,input_tokens,output_tokens,cache_read_input_tokens,cache_write_input_tokens,successful_requests,failed_requests",
    `2026-03-02,t1,${keys.team.id},of the team,gpt,gpt-4,openai,0.250000001,10,20,0,0,0,1`,
    `2026-03-02,,${keys.solo.id},,gpt,gpt-4,openai,0.000000001,10,20,0,0,1,0`,
    `2026-03-01,t1,${keys.team.id},of the team,gpt,gpt-4,openai,1.5,10,20,0,0,1,0`,
    `2026-03-01,t1,${keys.team.id},of the team,gpt,claude,anthropic,0.5,10,20,4,0,1,0`,
  ]);
  for (const [path, first] of [
    ["/global/spend/keys", `${keys.team.id},of the team,2.250000001,30,60,4,0,2,1`],
    ["/global/spend/logs", "2026-03-01,2,20,40,4,0,2,0"],
    ["/global/spend/teams", "2026-03-02,'=cmd(),t1,0.250000001,10,20,0,0,0,1"],
    ["/spend/users", "ada,2.250000001,30,60,4,0,2,1"],
  ]) {
    const { body } = await stage.http("GET", `${path}?${march}&format=csv`);
    const [columns = "", row] = String(body).split("\r\n");
    assert.equal(row, first, path);
    assert.equal(columns.split(",").length, row?.split(",").length, path);
  }
});

test("an id named in two ways has to be both", async () => {
  const of = async (query: string) => (await get(`/user/daily/activity?${march}&${query}`)).metadata.total_spend;
  assert.equal(await of("user_id=ada,bob&internal_user_id=ada"), 2.250000001);
  assert.equal(await of("user_id=bob&internal_user_id=ada"), 0);
});

test("daily activity by gRPC has exact amounts, in pages of days", async () => {
  const { spendAdmin } = stage;
  const asked = { dimension: SpendDimension.TEAM, startDay: "2026-03-01", endDay: "2026-03-31", pageSize: 1 };
  const first = await spendAdmin.listDailyActivity(asked);
  const rest = await spendAdmin.listDailyActivity({ ...asked, pageToken: first.nextPageToken });
  assert.equal(rest.nextPageToken, "");
  assert.deepEqual(
    [...first.days, ...rest.days].map(({ total, parts }) => [
      total?.day,
      total?.costUsd,
      parts.map(({ teamId, model, keyId, costUsd }) => [teamId, model, keyId, costUsd]),
    ]),
    [
      [
        "2026-03-02",
        "0.250000002",
        [
          ["t1", "gpt-4", keys.team.id, "0.250000001"],
          ["", "gpt-4", keys.solo.id, "0.000000001"],
        ],
      ],
      [
        "2026-03-01",
        "2",
        [
          ["t1", "gpt-4", keys.team.id, "1.5"],
          ["t1", "claude", keys.team.id, "0.5"],
        ],
      ],
    ],
  );
  assert.equal(rest.total?.costUsd, "2.250000002");
  const filters = [{ dimension: SpendDimension.MODEL, ids: ["claude"] }];
  const claude = await spendAdmin.listDailyActivity({ ...asked, ids: ["t1"], filters });
  assert.equal(claude.total?.costUsd, "0.5");
  for (const wrong of [
    { ...asked, dimension: SpendDimension.DAY },
    { ...asked, dimension: SpendDimension.UNSPECIFIED },
    { ...asked, startDay: "" },
    { ...asked, ids: ["a\0"] },
    { ...asked, filters: [{ dimension: SpendDimension.TEAM, ids: ["t1"] }] },
    { ...asked, dimension: SpendDimension.TAG, filters: [{ dimension: SpendDimension.CUSTOMER, ids: ["anna"] }] },
  ]) {
    await assert.rejects(
      spendAdmin.listDailyActivity(wrong),
      (error) => error instanceof ConnectError && error.code === Code.InvalidArgument,
      JSON.stringify(wrong),
    );
  }
});

test("a report with more rows than fit is refused, never cut; by gRPC it has pages", async () => {
  await stage.sql(
    `INSERT INTO daily_spend SELECT '2019-01-01', 'key_many', '', 'user ' || n, '', 'g', 'm', 'p', 1, 0, 0, 0, 0, 1, 0
     FROM generate_series(1, 100001) AS n`,
  );
  const day = "start_date=2019-01-01&end_date=2019-01-01";
  for (const path of [
    `/global/spend/report?${day}&group_by=user`,
    `/global/spend/report?${day}&group_by=user&format=csv`,
    `/user/daily/activity?${day}`,
    `/user/daily/activity?${day}&format=csv`,
  ]) {
    const { status, body } = await stage.http("GET", path);
    assert.equal(status, 400, path);
    assert.match(body.error.message, /more than 100000 rows/);
  }
  const groupBy = [SpendDimension.USER];
  const page = await stage.spendAdmin.getSpendReport({ groupBy, startDay: "2019-01-01", endDay: "2019-01-01" });
  assert.notEqual(page.nextPageToken, "");
  await stage.sql("DELETE FROM daily_spend WHERE day = '2019-01-01'");
});

test("the same by gRPC: any grouping, filters, exact amounts, pages", async () => {
  const { spendAdmin } = stage;
  const days = { startDay: "2026-03-01", endDay: "2026-03-31" };
  const { sums } = await spendAdmin.getSpendReport({ groupBy: [SpendDimension.TEAM], ...days });
  assert.deepEqual(
    sums.map(({ teamId, costUsd, successes, failures }) => [teamId, costUsd, successes, failures]),
    [
      ["t1", "2.250000001", 2n, 1n],
      ["", "0.000000001", 1n, 0n],
    ],
  );
  const filters = [{ dimension: SpendDimension.CUSTOMER, ids: ["anna"] }];
  const { sums: ofAnna } = await spendAdmin.getSpendReport({ groupBy: [SpendDimension.KEY], filters });
  assert.deepEqual(
    ofAnna.map(({ costUsd }) => costUsd),
    ["1.5", "0.000000001"],
  );
  const everything = await spendAdmin.getSpendReport({});
  assert.deepEqual(
    everything.sums.map(({ costUsd }) => costUsd),
    ["9.250000002"],
  );
  const groupBy = [SpendDimension.DAY, SpendDimension.MODEL];
  const first = await spendAdmin.getSpendReport({ groupBy, pageSize: 2 });
  const rest = await spendAdmin.getSpendReport({ groupBy, pageSize: 2, pageToken: first.nextPageToken });
  assert.deepEqual([first.sums.length, rest.sums.length, rest.nextPageToken], [2, 2, ""]);
  for (const wrong of [
    { groupBy: [SpendDimension.CUSTOMER, SpendDimension.TAG] },
    { startDay: "soon" },
    { filters: [{ dimension: SpendDimension.DAY, ids: ["2026-03-01"] }] },
    { filters: ["a", "b"].map((id) => ({ dimension: SpendDimension.TEAM, ids: [id] })) },
  ]) {
    await assert.rejects(spendAdmin.getSpendReport(wrong), /must|cannot/);
  }
});
