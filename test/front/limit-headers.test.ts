import assert from "node:assert/strict";
import { test } from "node:test";
import type { LimitState } from "../../src/completion.ts";
import { openAiFormat } from "../../src/front/answer-format.ts";
import { addLimitHeaders } from "../../src/front/limit-headers.ts";

/** As an object; of a name that is there twice the last would hide the first. */
function headersOf(limits: readonly LimitState[], model: string): Record<string, string> {
  const list: string[] = [];
  addLimitHeaders(list, limits, model, openAiFormat.limitNames);
  const pairs = Array.from({ length: list.length / 2 }, (_, index) => [list[2 * index], list[2 * index + 1]]);
  const object = Object.fromEntries(pairs);
  assert.equal(Object.keys(object).length, pairs.length, "no header is there twice");
  return object;
}

const state = (scope: string, kind: LimitState["kind"], ceiling: number, remaining: number): LimitState => {
  return { scope, kind, ceiling, remaining };
};

test("every limit is told by what it belongs to, the tightest of each kind once more, and a key's by model too", () => {
  const limits = [
    state("key", "requests", 100, 90),
    state("key", "parallel", 5, 4),
    state("model_per_key", "requests", 10, 9),
    state("model_per_key", "tokens", 1_000, 700),
    state("model_per_team", "requests", 50, 3),
  ];
  assert.deepEqual(headersOf(limits, "openai/gpt-4o:x"), {
    "x-ratelimit-api_key-limit-requests": "100",
    "x-ratelimit-api_key-remaining-requests": "90",
    "x-ratelimit-api_key-limit-max_parallel_requests": "5",
    "x-ratelimit-api_key-remaining-max_parallel_requests": "4",
    "x-ratelimit-model_per_key-limit-requests": "10",
    "x-ratelimit-model_per_key-remaining-requests": "9",
    "x-ratelimit-model_per_key-limit-tokens": "1000",
    "x-ratelimit-model_per_key-remaining-tokens": "700",
    "x-ratelimit-model_per_team-limit-requests": "50",
    "x-ratelimit-model_per_team-remaining-requests": "3",
    "x-ratelimit-limit-requests": "50",
    "x-ratelimit-remaining-requests": "3",
    "x-ratelimit-limit-tokens": "1000",
    "x-ratelimit-remaining-tokens": "700",
    "x-litellm-key-remaining-requests-openai-gpt-4o-x": "9",
    "x-litellm-key-remaining-tokens-openai-gpt-4o-x": "700",
  });
});

test("of several limits of one thing and kind the tightest is told", () => {
  const limits = [state("tag", "requests", 9, 5), state("tag", "requests", 3, 2), state("tag", "requests", 8, 8)];
  const headers = headersOf(limits, "m");
  assert.equal(headers["x-ratelimit-tag-limit-requests"], "3");
  assert.equal(headers["x-ratelimit-tag-remaining-requests"], "2");
});

test("without limits there are no such headers", () => {
  assert.deepEqual(headersOf([], "m"), {});
});
