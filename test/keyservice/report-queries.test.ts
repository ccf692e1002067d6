import assert from "node:assert/strict";
import { after, before, test } from "node:test";
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

test("a NUL in any parameter of any report is a 400", async () => {
  for (const [path, route] of routes) {
    // These have no parameters.
    if (path === "/global/spend/reset" || path === "/global/spend/refresh") continue;
    const method = [route.method].flat()[0] === "POST" ? "POST" : "GET";
    for (const name of names) {
      const { status } = await stage.http(method, `${path}?${name}=a%00`, method === "POST" ? {} : undefined);
      assert.equal(status, 400, `${path}?${name}`);
    }
  }
});
