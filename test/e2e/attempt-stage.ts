/** Plays calls against deployments that fail by plan, as an unchanged OpenAI client makes them, and tells all that came of them. */

import assert from "node:assert/strict";
import OpenAI, { APIError } from "openai";
import { errorTable, isErrorCode } from "../../src/errors.ts";
import type { Act, PlannedUpstream } from "./planned-upstream.ts";
import type { Stack } from "./stack.ts";

/** What a deployment does, call by call, and how it is configured. */
export interface PlannedDeployment {
  readonly does: readonly Act[];
  readonly order?: number;
  readonly weight?: number;
  /** Seconds. */
  readonly timeout?: number;
  readonly stream_timeout?: number;
  readonly cooldown_time?: number;
  readonly num_retries?: number;
}

/** What is to come of a call. */
export interface Expected {
  /** The deployments that are called, in their order. */
  readonly tried: string;
  /** "ok", or the code of the error. */
  readonly end: string;
  /** The error comes after the stream has begun. */
  readonly begun?: true;
  readonly retries?: number;
  readonly fallbacks?: number;
  /** `x-litellm-timeout`, where it matters. */
  readonly timeout?: string;
  readonly shouldRetry?: boolean;
  /** The least wait that is named, in milliseconds; a tenth and a bit more is the most. */
  readonly retryAfterMs?: number;
  readonly message?: RegExp;
  /** Attempts that failed and cost something all the same: their numbers. */
  readonly charged?: readonly number[];
}

/** A call, and what it meets. */
export interface Case {
  readonly what: string;
  /** Deployments of each group, by their names; the first group is called. Names are unique over all groups. */
  readonly groups: Readonly<Record<string, Readonly<Record<string, PlannedDeployment>>>>;
  /** Groups by the groups they stand in for. */
  readonly fallbacks?: Readonly<Record<string, readonly string[]>>;
  readonly contextWindowFallbacks?: Readonly<Record<string, readonly string[]>>;
  readonly contentPolicyFallbacks?: Readonly<Record<string, readonly string[]>>;
  readonly retryPolicy?: Readonly<Record<string, number>>;
  /** Of the call. */
  readonly fields?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Groups its `fallbacks` name. */
  readonly clientFallbacks?: readonly string[];
  /** The only groups its key may use; absent: all. */
  readonly allowed?: readonly string[];
  /** How often the client itself tries again. Default: never. */
  readonly clientRetries?: number;
  /** Absent: there is no such case for whole answers, or for streams. */
  readonly whole?: Expected;
  readonly stream?: Expected;
  /** How long the call takes, from and to, in milliseconds. */
  readonly takesMs?: readonly [number, number];
}

/** A case in one of its forms, with groups and deployments of its own. */
export interface Story {
  readonly id: string;
  readonly title: string;
  readonly one: Case;
  readonly isStream: boolean;
  readonly expected: Expected;
}

export function storiesOf(cases: readonly Case[]): Story[] {
  return cases.flatMap((one, index) =>
    [false, true].flatMap((isStream) => {
      const expected = isStream ? one.stream : one.whole;
      if (expected === undefined) return [];
      const title = `${one.what}, ${isStream ? "stream" : "whole"}: ${expected.tried || "nobody"}, ${expected.end}`;
      return [{ id: `s${index}${isStream ? "s" : "w"}`, title, one, isStream, expected }];
    }),
  );
}

/** @returns lines of `model_list`, and of `router_settings`. */
export function configOf(stories: readonly Story[], upstream: PlannedUpstream): { models: string; config: string } {
  const models: string[] = [];
  const settings: Record<string, unknown[]> = {
    fallbacks: [],
    context_window_fallbacks: [],
    content_policy_fallbacks: [],
  };
  const policies: Record<string, unknown> = {};
  for (const { id, one } of stories) {
    const named = (groups: Case["fallbacks"] = {}) =>
      Object.entries(groups).map(([group, others]) => ({
        [`${id}-${group}`]: others.map((other) => `${id}-${other}`),
      }));
    settings.fallbacks?.push(...named(one.fallbacks));
    settings.context_window_fallbacks?.push(...named(one.contextWindowFallbacks));
    settings.content_policy_fallbacks?.push(...named(one.contentPolicyFallbacks));
    for (const [group, deployments] of Object.entries(one.groups)) {
      if (one.retryPolicy !== undefined) policies[`${id}-${group}`] = one.retryPolicy;
      for (const [name, { does, ...params }] of Object.entries(deployments)) {
        upstream.plan(id, name, does);
        models.push(upstream.deployment(id, name, { group: `${id}-${group}`, params }));
      }
    }
  }
  const lines = Object.entries({ ...settings, model_group_retry_policy: policies });
  return {
    models: models.join("\n"),
    config: lines.map(([name, value]) => `  ${name}: ${JSON.stringify(value)}`).join("\n"),
  };
}

/** What a client sees of a call. */
interface Seen {
  readonly code: string;
  readonly message: string;
  readonly status: number | undefined;
  readonly headers: Headers;
  readonly text: string;
  /** The last answer's body, as it came. */
  readonly raw: string;
  /** The stream had begun. */
  readonly begun: boolean;
}

/** Makes a story's call, and holds what came of it against what was to come. */
export async function play(story: Story, stack: Stack, upstream: PlannedUpstream): Promise<void> {
  const { id, one, expected } = story;
  const models = one.allowed?.map((group) => `${id}-${group}`);
  const key = await stack.generateKey({ max_budget: 1, ...(models !== undefined && { models }) });
  const startedMs = performance.now();
  const seen = await callOf(story, stack, key);
  const tookMs = performance.now() - startedMs;
  const told = `${seen.status} ${seen.code} ${seen.message}`;
  assert.deepEqual(upstream.tried(id).join(" "), expected.tried, told);
  assert.equal(seen.code, expected.end, told);
  assert.equal(seen.begun, expected.begun === true || (story.isStream && expected.end === "ok"), told);
  if (expected.message !== undefined) assert.match(seen.message, expected.message);
  assert.doesNotMatch(`${told} ${seen.text}`, /sk-live|sk-upstream/);
  if (one.takesMs !== undefined)
    assert.ok(tookMs >= one.takesMs[0] - 5 && tookMs <= one.takesMs[1], `it took ${tookMs} ms`);
  checkHead(story, seen, told);
  if (seen.begun && story.isStream) {
    // An end without an error would pass for a whole answer.
    assert.equal(seen.raw.endsWith("\ndata: [DONE]\n\n"), expected.end === "ok", seen.raw.slice(-200));
    if (expected.end !== "ok") assert.match(seen.raw, /\ndata: \{"error":.*\}\n\n$/);
  }
  await checkBooks(story, stack, key);
}

function checkHead({ id, one, expected }: Story, { status, code, headers, begun }: Seen, told: string): void {
  if (!begun) assert.equal(status, isErrorCode(code) ? errorTable[code].httpStatus : 200, told);
  const names = expected.tried.split(" ").filter((name) => name !== "");
  // An error after the head went out leaves it as it was.
  const trail = ["retries", "fallbacks"].map((what) => headers.get(`x-litellm-attempted-${what}`));
  const wasUnderWay = names.length > 0;
  const counted = [expected.retries ?? 0, expected.fallbacks ?? 0].map(String);
  assert.deepEqual(trail, wasUnderWay ? counted : [null, null], "attempted retries and fallbacks");
  if (wasUnderWay) {
    const last = names.at(-1) ?? "";
    const group = Object.entries(one.groups).find(([, deployments]) => last in deployments)?.[0];
    assert.equal(headers.get("x-litellm-model-id"), `${id}-${last}`);
    assert.equal(headers.get("x-litellm-model-group"), `${id}-${group}`);
    const timeout = headers.get("x-litellm-timeout");
    if (expected.timeout === undefined) assert.match(timeout ?? "", /^\d+\.\d+$/);
    else assert.equal(timeout, expected.timeout);
  }
  if (isErrorCode(code) && !begun) {
    const shouldRetry = expected.shouldRetry ?? errorTable[code].retry;
    assert.equal(headers.get("x-should-retry"), String(shouldRetry), `x-should-retry: ${told}`);
    const waitMs = headers.get("retry-after-ms");
    assert.equal(waitMs !== null, shouldRetry);
    if (expected.retryAfterMs !== undefined) {
      const leastMs = expected.retryAfterMs;
      assert.ok(Number(waitMs) >= leastMs * 0.9 && Number(waitMs) <= leastMs * 1.1 + 100, `retry-after-ms: ${waitMs}`);
      assert.equal(headers.get("retry-after"), String(Math.ceil(Number(waitMs) / 1000)));
    }
  }
}

/** Every attempt is a row; those the provider may charge for are charged, and no others. */
async function checkBooks({ id, expected }: Story, stack: Stack, key: string): Promise<void> {
  const names = expected.tried.split(" ").filter((name) => name !== "");
  const rows = await stack.booked(key, names.length);
  const charged = expected.charged ?? [];
  const isLastGood = expected.end === "ok";
  assert.deepEqual(
    rows
      .toSorted((a, b) => a.attempt - b.attempt)
      .map((row) => [
        row.deployment_id,
        row.status,
        row.status === "success" ? row.cost_nanos === "24000" : BigInt(row.cost_nanos) > 0n,
      ]),
    names.map((name, index) => {
      const isGood = isLastGood && index === names.length - 1;
      return [`${id}-${name}`, isGood ? "success" : "failure", isGood || charged.includes(index + 1)];
    }),
    `the books: ${JSON.stringify(rows.map((row) => [row.deployment_id, row.status, row.cost_nanos]))}`,
  );
  for (const row of rows)
    assert.ok(BigInt(row.cost_nanos) <= BigInt(row.reserved_nanos), "never above what was reserved");
}

async function callOf({ id, one, isStream }: Story, stack: Stack, key: string): Promise<Seen> {
  let raw = "";
  const client = new OpenAI({
    fetch: async (...request) => {
      const answer = await fetch(...request);
      const tap = new TransformStream<Uint8Array, Uint8Array>({
        transform: (piece, out) => {
          raw += Buffer.from(piece).toString("utf8");
          out.enqueue(piece);
        },
      });
      return new Response(answer.body?.pipeThrough(tap) ?? null, answer);
    },
    ...{ apiKey: key, baseURL: `${stack.sidecars[0]?.url}/v1`, maxRetries: one.clientRetries ?? 0 },
    defaultHeaders: { ...one.headers },
  });
  const [group = ""] = Object.keys(one.groups);
  const body = {
    model: `${id}-${group}`,
    messages: [{ role: "user" as const, content: "Hello" }],
    ...(one.clientFallbacks !== undefined && { fallbacks: one.clientFallbacks.map((other) => `${id}-${other}`) }),
    ...one.fields,
  };
  let headers = new Headers();
  let [begun, text] = [false, ""];
  try {
    if (isStream) {
      const { data, response } = await client.chat.completions.create({ ...body, stream: true }).withResponse();
      headers = response.headers;
      begun = true;
      for await (const chunk of data) text += chunk.choices[0]?.delta.content ?? "";
    } else {
      const { data, response } = await client.chat.completions.create(body).withResponse();
      headers = response.headers;
      text = data.choices[0]?.message.content ?? "";
    }
    return { code: "ok", message: "", status: 200, headers, text, begun, raw };
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const told = { message: error.message, status: error.status, headers: error.headers ?? headers, text, begun };
    return { ...told, code: String(error.code), raw };
  }
}
