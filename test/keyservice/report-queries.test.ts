/** Whatever is asked of reports, the answer is theirs or says what is wrong with the question. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { dailyActivityRoutes } from "../../src/keyservice/http-daily-activity.ts";
import { reportRoutes } from "../../src/keyservice/http-reports.ts";
import { spendRoutes } from "../../src/keyservice/http-spend.ts";
import { Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const routes = Object.entries({ ...reportRoutes, ...spendRoutes, ...dailyActivityRoutes });
const names = [
  ...["start_date", "end_date", "page", "page_size", "limit", "group_by", "format", "summarize", "request_id"],
  ...["api_key", "user_id", "internal_user_id", "team_id", "team_ids", "customer_id", "end_user_ids", "model", "tags"],
  ...["organization_ids", "startTime", "endTime"],
];
const dates = [
  ...["2026-01-01", "2026-02-30", "0000-01-01", "0001-01-01", "9999-12-31", "2026-01-01T24:99:99Z", "-2026-01-01"],
  ...["infinity", "now", "epoch", "", "0000-12-31 00:00:00"],
];
const value = fc.oneof(
  fc.constantFrom(
    ...["2026-01-01", "2026-02-30", "0000-01-01", "0001-01-01", "9999-12-31", "2026-01-01T24:99:99Z", "-2026-01-01"],
    ...[
      "infinity",
      "now",
      "epoch",
      "0",
      "-1",
      "1",
      "1e9",
      "9".repeat(15),
      "9".repeat(400),
      "NaN",
      "",
      " ",
      "\0",
      "a\0b",
    ],
    ...[
      "'",
      "';DROP TABLE keys;--",
      "$1",
      "%",
      "\\",
      "{",
      "{a,b}",
      "NULL",
      "key_a",
      "key_\0",
      "sk-\0",
      "ä😀",
      "\ufffd",
    ],
    ...["team", "tag", "customer", "csv", "json", "true", "false", ",", ",,a", "__proto__", "constructor", "toString"],
    ...["x".repeat(9_000), "a".repeat(64), "00000000-0000-0000-0000-000000000000"],
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.integer().map(String),
);
const anyName = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...names) }, { weight: 1, arbitrary: value });
const dateName = fc.constantFrom("start_date", "end_date", "startTime", "endTime");
const pair = fc.oneof(fc.tuple(anyName, value), fc.tuple(dateName, fc.constantFrom(...dates)));
/** Now and then each parameter is there once and two good days come first, so that what comes behind is reached. */
const pairs = fc.oneof(
  fc.array(pair, { maxLength: 5 }),
  fc.uniqueArray(pair, { maxLength: 4, selector: ([name]) => name }),
  fc
    .uniqueArray(pair, { maxLength: 4, selector: ([name]) => name })
    .map((given) => [...new Map([["start_date", "2026-01-01"], ["end_date", "2026-01-31"], ...given])]),
);
/** Percent signs that are no UTF-8 too. */
const tail = fc.constantFrom("", "&user_id=%ff", "&team_id=%00", "&api_key=%", "&tags=%ed%a0%80");

/** What only a database would say. */
const sql = /\b(?:SELECT|syntax error|invalid input|daily_spend|daily_party_spend|spend_log|pg_|relation|column)\b/;

test("no question makes a report fail, and no error has SQL in it", async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...routes), pairs, tail, async ([path, route], given, end) => {
      const method = [route.method].flat()[0] === "POST" ? "POST" : "GET";
      const query = `${new URLSearchParams(given.map(([name, text]) => [name, text]))}${end}`;
      const body = method === "POST" ? Object.fromEntries(given) : undefined;
      const answer = await stage.http(method, `${path}?${query}`, body);
      const said = JSON.stringify(answer.body);
      assert.ok(answer.status < 500, `${answer.status} ${path}?${query}: ${said}`);
      if (answer.status === 200) return;
      assert.doesNotMatch(said, sql, `${path}?${query}`);
      assert.ok(answer.body.error.message.length < 300, said);
    }),
    { numRuns: 400 },
  );
});

test("a NUL in any parameter of any report is a 400", async () => {
  for (const [path, route] of routes) {
    const method = [route.method].flat()[0] === "POST" ? "POST" : "GET";
    for (const name of names) {
      const { status } = await stage.http(method, `${path}?${name}=a%00`, method === "POST" ? {} : undefined);
      assert.equal(status, 400, `${path}?${name}`);
    }
  }
});
