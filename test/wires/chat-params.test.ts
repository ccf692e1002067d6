import assert from "node:assert/strict";
import { test } from "node:test";
import type { Json, JsonObject } from "../../src/completion.ts";
import type { ParamPolicy } from "../../src/config/param-policy.ts";
import { ProviderFailure } from "../../src/errors.ts";
import { changed, fitParams } from "../../src/wires/chat-params.ts";

const policy = (facts: Partial<ParamPolicy> = {}): ParamPolicy => ({
  lacks: new Set(["seed", "logprobs", "n", "logit_bias"]),
  drops: false,
  leavesOut: [],
  modifies: false,
  ...facts,
});

const fitted = (body: JsonObject, facts: Partial<ParamPolicy> = {}): Json =>
  changed(body, fitParams(body, policy(facts), "acme"));

test("a parameter the provider lacks is refused by name, and nothing is charged", () => {
  assert.throws(
    () => fitted({ seed: 7 }),
    (error) => {
      assert.ok(error instanceof ProviderFailure);
      assert.equal(error.code, "invalid_request");
      assert.equal(error.facts.param, "seed");
      assert.equal(error.billable, false);
      assert.match(error.message, /"acme" does not take `seed`.*drop_params/);
      return true;
    },
  );
});

test("it is dropped when the operator or the caller says so", () => {
  assert.deepEqual(fitted({ seed: 7, top_p: 1 }, { drops: true }), { top_p: 1 });
  assert.deepEqual(fitted({ seed: 7, drop_params: true }), { drop_params: true });
});

test("what is allowed passes, and so does what is not OpenAI's", () => {
  assert.deepEqual(fitted({ seed: 7, top_k: 3 }, { lacks: new Set() }), { seed: 7, top_k: 3 });
  const body = { seed: 7, allowed_openai_params: ["seed"] };
  assert.deepEqual(fitted(body), body);
});

test("a value that asks for nothing is dropped without a word", () => {
  assert.deepEqual(fitted({ seed: null, n: 1, logprobs: false, logit_bias: {}, top_p: 0.5 }), { top_p: 0.5 });
  assert.throws(() => fitted({ n: 2 }), /`n`/);
});

test("what is to be left out is left out of every request, however deep it stands", () => {
  const body = {
    seed: 7,
    tools: [{ function: { name: "f", strict: true } }, { function: { name: "g", strict: false } }],
    stop: ["a", "b"],
    response_format: { json_schema: { strict: true } },
  };
  const leavesOut = ["seed", "tools[*].function.strict", "stop[1]", "response_format.json_schema.strict", "no.such"];
  assert.deepEqual(fitted(body, { leavesOut }), {
    tools: [{ function: { name: "f" } }, { function: { name: "g" } }],
    stop: ["a"],
    response_format: { json_schema: {} },
  });
  assert.equal(body.tools[0]?.function.strict, true, "the body itself stays as it was");
  const byCaller = { additional_drop_params: ["seed"], seed: 7 };
  assert.deepEqual(fitted(byCaller), { additional_drop_params: ["seed"] });
});
