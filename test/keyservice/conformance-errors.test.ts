/** LiteLLM's documented refusals of administration: status, `error.type`, and the field at fault. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { JsonObject } from "../../src/completion.ts";
import { masterKey, Stage } from "./admin-stage.ts";

let stage: Stage;
/** A key of a user without a role, and one that is somebody else's. */
const keys = { own: "", foreign: "" };
before(async () => {
  stage = await Stage.open();
  const made = async (path: string, body: JsonObject) => {
    const answer = await stage.http("POST", path, body);
    assert.equal(answer.status, 200, `${path} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  keys.own = (await made("/user/new", { user_id: "taken", key_alias: "taken" })).key;
  keys.foreign = (await made("/key/generate", { key: "sk-taken-0123456789abcd" })).key;
  await made("/team/new", { team_id: "taken" });
  await made("/organization/new", { organization_id: "taken", organization_alias: "a" });
  await made("/customer/new", { user_id: "taken" });
  await made("/tag/new", { name: "taken" });
  await made("/budget/new", { budget_id: "taken" });
  await made("/customer/update", { user_id: "taken", budget_id: "taken" });
  await made("/model/new", {
    model_name: "m",
    litellm_params: { model: "openai/gpt-4o", api_key: "sk-x" },
    model_info: { id: "taken" },
  });
  await made("/credentials", { credential_name: "taken", credential_values: { api_key: "sk-x" } });
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

type Method = "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
/** A request, and what of it is at fault; null: nothing is named. */
type Line = readonly [method: Method, path: string, body?: JsonObject | undefined, param?: string | null];

async function refused(lines: readonly Line[], expected: { status: number; type: string }, key = masterKey) {
  const wrong: string[] = [];
  for (const [method, path, body, param] of lines) {
    const headers: Record<string, string> = key === "" ? {} : { authorization: `Bearer ${key}` };
    const answer = await stage.http(method, path, body, headers);
    const { error, detail } = answer.body;
    const said = [answer.status, error?.type, error?.code, detail?.error];
    const wanted = [expected.status, expected.type, String(expected.status), error?.message];
    if (JSON.stringify(said) !== JSON.stringify(wanted) || (param !== undefined && error.param !== param))
      wrong.push(`${method} ${path} ${JSON.stringify(body)}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
  assert.deepEqual(wrong, []);
}

test("what is unknown is a 404", async () => {
  const model = { litellm_params: { model: "openai/gpt-4o" } };
  await refused(
    [
      ["GET", "/key/info?key=sk-unknown-0123456789ab", undefined, "key"],
      ["POST", "/key/update", { key: "sk-unknown-0123456789ab" }, "key"],
      ["POST", "/key/block", { key: "sk-unknown-0123456789ab" }, "key"],
      ["POST", "/key/regenerate", { key: "sk-unknown-0123456789ab" }, "key"],
      ["POST", "/key/sk-unknown-0123456789ab/reset_spend", { reset_to: 0 }, "key"],
      ["POST", "/key/delete", { keys: ["sk-unknown-0123456789ab"] }],
      ["GET", "/team/info?team_id=none"],
      ["GET", "/team/permissions_list?team_id=none"],
      ["POST", "/team/permissions_update", { team_id: "none", team_member_permissions: [] }],
      ["POST", "/team/update", { team_id: "none" }],
      ["POST", "/team/delete", { team_ids: ["none"] }],
      ["POST", "/team/block", { team_id: "none" }],
      ["POST", "/team/member_add", { team_id: "none", member: { user_id: "u", role: "user" } }],
      ["POST", "/team/member_update", { team_id: "taken", user_id: "none" }, "user_id"],
      ["POST", "/team/member_delete", { team_id: "taken", user_id: "none" }, "user_id"],
      ["POST", "/team/model/add", { team_id: "none", models: ["m"] }],
      ["GET", "/user/info?user_id=none"],
      ["POST", "/user/update", { user_id: "none" }],
      ["POST", "/user/delete", { user_ids: ["none"] }],
      ["GET", "/organization/info?organization_id=none"],
      ["PATCH", "/organization/update", { organization_id: "none" }],
      ["DELETE", "/organization/delete", { organization_ids: ["none"] }],
      ["POST", "/organization/member_add", { organization_id: "none", member: { user_id: "u" } }],
      ["DELETE", "/organization/member_delete", { organization_id: "taken", user_id: "none" }, "user_id"],
      ["GET", "/customer/info?end_user_id=none"],
      ["POST", "/customer/update", { user_id: "none" }],
      ["POST", "/customer/delete", { user_ids: ["none"] }],
      ["POST", "/tag/update", { name: "none" }],
      ["POST", "/tag/delete", { name: "none" }],
      ["POST", "/budget/update", { budget_id: "none" }],
      ["POST", "/budget/delete", { id: "none" }],
      ["PATCH", "/model/none/update", model],
      ["GET", "/credentials/by_name/none"],
      ["DELETE", "/credentials/none"],
    ],
    { status: 404, type: "not_found_error" },
  );
});

test("what is taken is a 400 that names the field", async () => {
  await refused(
    [
      ["POST", "/key/generate", { key_alias: "taken" }, "key_alias"],
      ["POST", "/key/generate", { key: "sk-taken-0123456789abcd" }, "key"],
      ["POST", "/team/new", { team_id: "taken" }, "team_id"],
      ["POST", "/user/new", { user_id: "taken" }, "user_id"],
      ["POST", "/organization/new", { organization_id: "taken", organization_alias: "a" }, "organization_id"],
      ["POST", "/customer/new", { user_id: "taken" }, "user_id"],
      ["POST", "/tag/new", { name: "taken" }, "name"],
      ["POST", "/budget/new", { budget_id: "taken" }, "budget_id"],
      [
        "POST",
        "/model/new",
        { model_name: "m", litellm_params: { model: "openai/gpt-4o", api_key: "k" }, model_info: { id: "taken" } },
      ],
      ["POST", "/credentials", { credential_name: "taken", credential_values: { api_key: "k" } }],
    ],
    { status: 400, type: "bad_request_error" },
  );
});

test("what is missing or wrong is a 400 that names the field", async () => {
  await refused(
    [
      ["POST", "/key/generate", { key: "no-prefix-0123456789ab" }, "key"],
      ["POST", "/key/generate", { auto_rotate: true }, "auto_rotate"],
      ["POST", "/key/generate", { budget_id: "none" }, "budget_id"],
      ["POST", "/key/generate", { key_type: "other" }, "key_type"],
      ["POST", "/key/generate", { temp_budget_increase: 1 }, "temp_budget_expiry"],
      ["POST", "/key/update", {}, "key"],
      ["POST", "/key/delete", {}, "keys"],
      ["GET", "/key/info", undefined, "key"],
      ["POST", "/key/taken/reset_spend", {}, "reset_to"],
      ["GET", "/key/list?size=101", undefined, "size"],
      ["GET", "/team/info", undefined, "team_id"],
      ["GET", "/team/permissions_list", undefined, "team_id"],
      ["POST", "/team/update", {}, "team_id"],
      ["POST", "/team/new", { admins: "me" }, "admins"],
      ["POST", "/team/member_add", { team_id: "taken", member: { user_id: "u", role: "king" } }, "member"],
      ["GET", "/user/info", undefined, "user_id"],
      ["POST", "/user/new", { user_role: "king" }, "user_role"],
      ["POST", "/user/new", { user_email: "nowhere" }, "user_email"],
      ["POST", "/organization/new", {}, "organization_alias"],
      ["GET", "/organization/info", undefined, "organization_id"],
      ["POST", "/customer/new", {}, "user_id"],
      ["POST", "/customer/new", { user_id: "c", max_budget: 1, budget_id: "taken" }, "max_budget"],
      ["GET", "/customer/info", undefined, "end_user_id"],
      ["POST", "/tag/new", {}, "name"],
      ["POST", "/budget/update", {}, "budget_id"],
      ["GET", "/user/daily/activity", undefined, "start_date"],
      ["GET", "/user/daily/activity?start_date=2026-01-01&end_date=soon", undefined, "end_date"],
      ["GET", "/global/spend/report?group_by=moon", undefined, "group_by"],
      ["POST", "/cost/estimate", { input_tokens: 1, output_tokens: 1 }, "model"],
      ["POST", "/cost/estimate", { model: "nobody-knows", input_tokens: 1, output_tokens: 1 }, "model"],
      ["POST", "/cost/estimate", { model: "m", input_tokens: -1, output_tokens: 1 }, "input_tokens"],
      ["POST", "/cost/estimate", { model: "m", input_tokens: 1, output_tokens: 0.5 }, "output_tokens"],
      ["POST", "/spend/calculate", { model: "m", messages: [] }, "completion_response"],
      ["POST", "/spend/calculate", { model: "m", completion_response: { usage: {} } }, "completion_response"],
    ],
    { status: 400, type: "invalid_request_error" },
  );
});

test("what is not one's own is a 403", async () => {
  const days = "start_date=2026-01-01&end_date=2026-01-31";
  await refused(
    [
      ["GET", `/key/info?key=${keys.foreign}`],
      ["POST", "/key/update", { key: keys.foreign }],
      ["POST", "/key/delete", { keys: [keys.foreign] }],
      ["POST", "/key/regenerate", { key: keys.foreign }],
      ["POST", "/key/block", { key: keys.own }],
      ["POST", "/key/generate", { user_id: "somebody" }],
      ["POST", "/key/generate", { team_id: "taken" }],
      ["POST", "/key/service-account/generate", { team_id: "taken" }],
      ["GET", "/team/info?team_id=taken"],
      ["POST", "/team/new", {}],
      ["POST", "/team/permissions_update", { team_id: "taken", team_member_permissions: [] }],
      ["POST", "/team/member_add", { team_id: "taken", member: { user_id: "u", role: "user" } }],
      ["GET", "/user/info?user_id=somebody"],
      ["POST", "/user/bulk_update", { users: [{ user_id: "taken", max_budget: 1 }] }],
      ["POST", "/user/new", {}],
      ["GET", "/customer/list"],
      ["POST", "/organization/new", { organization_alias: "a" }],
      ["POST", "/budget/new", {}],
      ["POST", "/tag/new", { name: "t" }],
      ["POST", "/model/new", {}],
      ["GET", "/credentials"],
      ["GET", "/global/spend/report"],
      ["GET", `/user/daily/activity?${days}&user_id=somebody`],
      ["GET", `/team/daily/activity?${days}&team_ids=taken`],
    ],
    { status: 403, type: "auth_error" },
    keys.own,
  );
});

test("without a key, with an unknown one, and with one that is over or blocked, nothing is answered", async () => {
  const lines: readonly Line[] = [
    ["POST", "/key/generate", {}],
    ["GET", "/key/info"],
    ["POST", "/team/new", {}],
    ["POST", "/user/bulk_update", {}],
    ["POST", "/cost/estimate", {}],
    ["GET", "/global/spend/report"],
    ["GET", "/model/info"],
  ];
  for (const key of ["", "sk-unknown-0123456789ab", "not-a-key"]) {
    await refused(lines, { status: 401, type: "auth_error" }, key);
  }
  const { body: brief } = await stage.http("POST", "/key/generate", { user_id: "taken", duration: "1s" });
  stage.aheadMs = 2_000;
  await refused(lines, { status: 401, type: "expired_key" }, brief.key);
  stage.aheadMs = 0;
  const { body: blocked } = await stage.http("POST", "/key/generate", { blocked: true });
  await refused(lines, { status: 403, type: "auth_error" }, blocked.key);
});

test("a member without the permission is a 401 of its own type; a budget in use cannot be deleted", async () => {
  await stage.http("POST", "/team/member_add", { team_id: "taken", member: { user_id: "member", role: "user" } });
  const { body } = await stage.http("POST", "/user/new", { user_id: "member" });
  const lines: readonly Line[] = [["POST", "/key/generate", { team_id: "taken" }, "team_id"]];
  await refused(lines, { status: 401, type: "team_member_permission_error" }, body.key);
  const inUse = await stage.http("POST", "/budget/delete", { id: "taken" });
  assert.deepEqual([inUse.status, inUse.body.error.type], [409, "conflict_error"]);
});

test("an id no database can hold is refused, and blames nobody else", async () => {
  const nul = "a\u0000b";
  const lines: readonly Line[] = [
    ["GET", "/team/info?team_id=%00"],
    ["GET", "/team/permissions_list?team_id=%00"],
    ["POST", "/team/permissions_update", { team_id: nul, team_member_permissions: [] }],
    ["POST", "/team/update", { team_id: nul }],
    ["POST", "/team/delete", { team_ids: [nul] }],
    ["POST", "/team/member_add", { team_id: nul, member: { user_id: "u", role: "user" } }],
    ["POST", "/team/member_delete", { team_id: "taken", user_id: nul }],
    ["POST", "/team/new", { team_id: "fresh", members: [nul] }],
    ["GET", "/user/info?user_id=%00"],
    ["POST", "/user/bulk_update", { users: [{ user_email: nul }, { user_id: nul }] }],
    ["POST", "/user/delete", { user_ids: [nul] }],
    ["GET", "/user/list?user_email=%00"],
    ["GET", "/organization/info?organization_id=%00"],
    ["GET", "/customer/info?end_user_id=%00"],
    ["POST", "/customer/block", { user_ids: [nul] }],
    ["POST", "/tag/info", { names: [nul] }],
    ["POST", "/tag/delete", { name: nul }],
    ["POST", "/budget/info", { budgets: [nul] }],
    ["POST", "/budget/delete", { id: nul }],
    ["GET", "/budget/settings?budget_id=%00"],
    ["GET", "/team/list?user_id=%00"],
    ["GET", "/tag/summary?tag_filter=%00"],
    ["POST", "/key/service-account/generate", { team_id: nul }],
    ["POST", "/cost/estimate", { model: nul, input_tokens: 1, output_tokens: 1 }],
  ];
  const wrong: string[] = [];
  for (const [method, path, body] of lines) {
    const answer = await stage.http(method, path, body);
    if (answer.status >= 500) wrong.push(`${method} ${path} ${JSON.stringify(body)}: ${answer.status}`);
  }
  assert.deepEqual(wrong, []);
});
