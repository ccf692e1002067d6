import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import type { JsonObject } from "../../src/completion.ts";
import { Stage } from "./admin-stage.ts";

let stage: Stage;
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

const nasty = [
  ...[
    "\u0000",
    "\ud800",
    "'; DROP TABLE keys; --",
    '"',
    "\\",
    "x".repeat(5_000),
    "",
    " ",
    "sk-",
    "sk-\u0000",
    "-1",
    "0",
  ],
  ...["9999999999mo", "1e308", "NaN", "2026-02-30", "9999-12-31T23:59:59+99:99", "0000-01-01", "__proto__", "*", "/"],
];
const value = fc.oneof(
  fc.constantFrom(...nasty),
  fc.constantFrom(-1, 0, 1.5, 1e20, 1e308, -0, true, false, null),
  fc.constantFrom<unknown>([], [null], ["\u0000"], [[[]]], {}, { a: "\u0000" }, { "\ud800": 1 }, { __proto__: null }),
  fc.jsonValue({ maxDepth: 3 }),
);
const fields = [
  ...["key", "keys", "key_alias", "key_aliases", "new_key", "grace_period", "reset_to", "models", "aliases", "tags"],
  ...["metadata", "max_budget", "soft_budget", "budget_duration", "budget_limits", "budget_id", "model_max_budget"],
  ...[
    "rpm_limit",
    "tpm_limit",
    "max_parallel_requests",
    "user_id",
    "team_id",
    "organization_id",
    "blocked",
    "duration",
  ],
  ...["temp_budget_increase", "temp_budget_expiry", "allowed_routes", "enforced_params", "key_type", "auto_rotate"],
  ...["permissions", "guardrails", "spend", "allowed_cache_controls", "new_master_key"],
];
const paths = [
  ...[
    "/key/generate",
    "/key/update",
    "/key/delete",
    "/key/block",
    "/key/unblock",
    "/key/regenerate",
    "/key/bulk_update",
  ],
  ...["/v2/key/info", "/key/KEY/regenerate", "/key/KEY/reset_spend", "/key/%00/regenerate", "/key/%FF/reset_spend"],
];

test("whatever is sent to the keys' endpoints, none answers that it is our fault", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", { key_alias: "fuzzed" });
  const body = fc.dictionary(fc.constantFrom(...fields), value, { maxKeys: 4 });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...paths), fc.boolean(), body, async (path, isNamed, sent) => {
      const key = isNamed ? { key: made.key_id } : {};
      const bulk = path === "/key/bulk_update" ? { keys: [{ ...key, ...sent }] } : { ...key, ...sent };
      const answer = await stage.http("POST", path.replace("KEY", made.key_id), bulk as JsonObject);
      assert.ok(answer.status < 500, `${path} ${JSON.stringify(bulk)}: ${JSON.stringify(answer.body)}`);
    }),
    { numRuns: 600 },
  );
});

test("whatever stands in a query, none answers that it is our fault", async () => {
  const names = "key key_hash key_alias team_id user_id organization_id status page size sort_by sort_order".split(" ");
  const query = fc.dictionary(fc.constantFrom(...names), fc.oneof(fc.constantFrom(...nasty), fc.string()), {
    maxKeys: 3,
  });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("/key/list", "/key/info", "/key/aliases"), query, async (path, sent) => {
      const wellFormed = Object.entries(sent).map(([name, text]) => [name, text.toWellFormed()]);
      const answer = await stage.http("GET", `${path}?${new URLSearchParams(wellFormed)}`);
      assert.ok(answer.status < 500, `${path} ${JSON.stringify(sent)}: ${JSON.stringify(answer.body)}`);
    }),
    { numRuns: 200 },
  );
});
