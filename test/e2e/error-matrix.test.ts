/** LiteLLM's error matrix for calls: why one is refused, by the objects and limits an operator has made. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Stack } from "./stack.ts";

/** What is refused: the operator's requests, the fields of the key (undefined: the header as it is), and those of the call. */
interface Case {
  readonly what: string;
  readonly made?: readonly (readonly [path: string, body: object])[];
  readonly key?: object;
  readonly header?: string;
  readonly call?: object;
  readonly expected: readonly [status: number, type: string, message: RegExp];
}

const used = { max_budget: 0 };
const denied = (what: RegExp): Case["expected"] => [403, "key_model_access_denied", what];
const spent = (what: RegExp): Case["expected"] => [429, "budget_exceeded", what];
const limited = (what: RegExp): Case["expected"] => [429, "rate_limit_error", what];

const cases: readonly Case[] = [
  { what: "no key", expected: [401, "auth_error", /no.*key/i] },
  { what: "a key without Bearer", header: "sk-unknown-0123456789", expected: [401, "auth_error", /Bearer/] },
  { what: "no virtual key", header: "Bearer not-a-key", expected: [401, "auth_error", /Invalid API key/] },
  { what: "an unknown key", header: "Bearer sk-unknown-0123456789", expected: [401, "auth_error", /key/] },
  { what: "a blocked key", key: { blocked: true }, expected: [403, "auth_error", /blocked/] },
  {
    what: "a blocked team",
    made: [
      ["/team/new", { team_id: "blocked" }],
      ["/team/block", { team_id: "blocked" }],
    ],
    key: { team_id: "blocked" },
    expected: [403, "auth_error", /team.*blocked|blocked/i],
  },
  {
    what: "a model that is not the key's",
    key: { models: ["other"] },
    expected: denied(/"ok" is not available for this API key/),
  },
  {
    what: "a model that is not the team's",
    made: [["/team/new", { team_id: "narrow", models: ["other"] }]],
    key: { team_id: "narrow" },
    expected: denied(/"ok" is not available for this API key/),
  },
  {
    what: "a model that is not the user's",
    made: [["/user/new", { user_id: "narrow", models: ["other"] }]],
    key: { user_id: "narrow" },
    expected: denied(/"ok" is not available for this API key/),
  },
  {
    what: "a model that is not the organization's",
    made: [["/organization/new", { organization_id: "narrow", organization_alias: "n", models: ["other"] }]],
    key: { organization_id: "narrow" },
    expected: denied(/"ok" is not available for this API key/),
  },
  { what: "a key without budget", key: used, expected: spent(/Key=key_\w+ Current cost: \$0, Max budget: \$0/) },
  {
    what: "a team without budget",
    made: [["/team/new", { team_id: "poor", ...used }]],
    key: { team_id: "poor" },
    expected: spent(/Team=poor Current cost/),
  },
  {
    what: "a user without budget",
    made: [["/user/new", { user_id: "poor", ...used }]],
    key: { user_id: "poor" },
    expected: spent(/User=poor Current cost/),
  },
  {
    what: "an organization without budget",
    made: [["/organization/new", { organization_id: "poor", organization_alias: "p", ...used }]],
    key: { organization_id: "poor" },
    expected: spent(/Organization=poor Current cost/),
  },
  {
    what: "a member without budget",
    made: [
      ["/team/new", { team_id: "rich" }],
      ["/team/member_add", { team_id: "rich", member: { user_id: "m", role: "user" }, max_budget_in_team: 0 }],
    ],
    key: { team_id: "rich", user_id: "m" },
    expected: spent(/TeamMember=m:rich Current cost/),
  },
  {
    what: "a customer without budget",
    made: [["/customer/new", { user_id: "poor", ...used }]],
    key: {},
    call: { user: "poor" },
    expected: spent(/EndUser=poor Current cost/),
  },
  {
    what: "a tag without budget",
    made: [["/tag/new", { name: "poor", ...used }]],
    key: { tags: ["poor"] },
    expected: spent(/Tag=poor Current cost/),
  },
  {
    what: "a model without budget",
    key: { model_max_budget: { ok: { budget_limit: 0, time_period: "1d" } } },
    expected: spent(/ok/),
  },
  {
    what: "a window without budget",
    key: { max_budget: 5, budget_limits: [{ budget_duration: "1d", max_budget: 0 }] },
    expected: spent(/1d/),
  },
  { what: "no requests a minute", key: { rpm_limit: 0 }, expected: limited(/request/) },
  { what: "no tokens a minute", key: { tpm_limit: 0 }, expected: limited(/token/) },
  { what: "nothing in flight", key: { max_parallel_requests: 0 }, expected: limited(/parallel|flight/) },
  { what: "an unknown model", key: {}, call: { model: "moon" }, expected: [404, "invalid_request_error", /moon/] },
  { what: "no model", key: {}, call: { model: undefined }, expected: [400, "invalid_request_error", /model/] },
  {
    what: "a route that is not the key's",
    key: { allowed_routes: ["info_routes"] },
    expected: [403, "auth_error", /\/chat\/completions|route/],
  },
  {
    what: "a parameter that must be there",
    key: { enforced_params: ["user"] },
    expected: [400, "invalid_request_error", /user/],
  },
];

describe("LiteLLM's error matrix", () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ sidecars: 1 });
  });
  after(() => stack.close());

  const call = async ({ key, header, call: fields }: Case) => {
    const authorization = key === undefined ? header : `Bearer ${await stack.generateKey(key)}`;
    const answer = await fetch(`${stack.sidecars[0]?.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(authorization === undefined ? {} : { authorization }) },
      body: JSON.stringify({ model: "ok", messages: [{ role: "user", content: "Hello" }], ...fields }),
    });
    return { status: answer.status, body: (await answer.json()) as { error: { type: string; message: string } } };
  };

  for (const one of cases) {
    test(`${one.what} is ${one.expected[0]} ${one.expected[1]}`, async () => {
      for (const [path, body] of one.made ?? [])
        assert.equal((await stack.admin("POST", path, body)).status, 200, path);
      const { status, body } = await call(one);
      const [expectedStatus, type, message] = one.expected;
      assert.deepEqual([status, body.error.type], [expectedStatus, type], body.error.message);
      assert.match(body.error.message, message);
    });
  }

  test("a key whose time is over is 401 expired_key", async () => {
    const key = await stack.generateKey({ duration: "1s" });
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const answer = await stack.chat(0, key);
    const { error } = (await answer.json()) as { error: { type: string } };
    assert.deepEqual([answer.status, error.type], [401, "expired_key"]);
  });
});
