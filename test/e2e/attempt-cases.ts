/** Which deployments a call comes to, in which order, and what its caller is told. */

import type { Case, Expected, PlannedDeployment } from "./attempt-stage.ts";
import type { Act } from "./planned-upstream.ts";

/** Chosen as long as it was not tried; the others of its group have no weight. */
function first(...does: Act[]): PlannedDeployment {
  return { does, weight: 1 };
}

function then(...does: Act[]): PlannedDeployment {
  return { does, weight: 0 };
}

const ok: Expected = { tried: "a", end: "ok" };
const second: Expected = { tried: "a b", end: "ok", retries: 1 };
const none = { num_retries: 0 };

/** The same for whole answers and streams. */
function both(expected: Expected): Pick<Case, "whole" | "stream"> {
  return { whole: expected, stream: expected };
}

/** A failure of the first of two deployments. */
const passing: readonly (readonly [Act, boolean])[] = [
  ["busy", false],
  ["busyForAMoment", false],
  ["busyForAMinute", false],
  ["broken", false],
  ["badGateway", false],
  ["away", false],
  ["badKey", false],
  ["unknownModel", false],
  ["resetBeforeHead", false],
  ["page", false],
  ["garbage", true],
  ["resetAfterHead", true],
  ["empty", true],
];

/** What is invisible: another deployment answers. */
const invisible: readonly Case[] = [
  { what: "all is well", groups: { m: { a: first("ok") } }, ...both(ok), fields: none },
  ...passing.map(
    ([act, isCharged]): Case => ({
      what: `${act} at one of two`,
      groups: { m: { a: first(act), b: then("ok") } },
      ...both({ ...second, ...(isCharged && { charged: [1] }) }),
    }),
  ),
  {
    what: "silence at one of two",
    groups: { m: { a: { ...first("silent"), timeout: 0.3, stream_timeout: 0.3 }, b: then("ok") } },
    ...both({ ...second, charged: [1], timeout: "5.0" }),
    takesMs: [300, 4_500],
  },
  {
    what: "a whole answer that is cut off, reset, or stalls, is no answer",
    groups: {
      m: {
        a: { does: ["truncated"], order: 1 },
        b: { does: ["resetInTheMiddle"], order: 2 },
        c: { does: ["stalled"], order: 3, timeout: 0.3 },
        d: { does: ["ok"], order: 4 },
      },
    },
    fields: { num_retries: 3 },
    whole: { tried: "a b c d", end: "ok", retries: 3, charged: [1, 2, 3] },
  },
  {
    what: "an error as the first event of a stream",
    groups: { m: { a: first("failsAtOnce"), b: then("ok") } },
    stream: second,
  },
  {
    what: "a line without an end",
    groups: { m: { a: first("endless"), b: then("ok") } },
    ...both({ ...second, charged: [1] }),
  },
];

/** What a caller is told when that was all. */
const visible: readonly Case[] = [
  ...(
    [
      ["busy", "provider_rate_limited", {}],
      ["busyForAMoment", "provider_rate_limited", { retryAfterMs: 300 }],
      ["busyForAMinute", "provider_rate_limited", { retryAfterMs: 60_000 }],
      ["broken", "provider_error", {}],
      ["away", "provider_unavailable", {}],
      ["badKey", "provider_auth_failed", {}],
      ["unknownModel", "provider_model_not_found", {}],
      ["rejected", "provider_rejected", { message: /temperature must be at most 2/ }],
      ["tooLong", "context_length_exceeded", { message: /maximum context length/ }],
      ["indecent", "content_policy_violation", {}],
      ["resetBeforeHead", "provider_unavailable", {}],
      ["resetAfterHead", "stream_interrupted", { charged: [1] }],
      ["garbage", "provider_error", { charged: [1] }],
    ] as const
  ).map(
    ([act, end, more]): Case => ({
      what: `${act}, with no retries`,
      groups: { m: { a: first(act) } },
      fields: none,
      ...both({ tried: "a", end, ...more }),
    }),
  ),
  {
    what: "silence, with no retries",
    groups: { m: { a: { does: ["silent"], timeout: 0.3, stream_timeout: 0.2 } } },
    fields: none,
    whole: { tried: "a", end: "provider_timeout", timeout: "0.3", charged: [1] },
    stream: { tried: "a", end: "provider_timeout", timeout: "0.2", charged: [1] },
  },
  ...(["resetInTheMiddle", "truncated", "failsLater", "stalled"] as const).map(
    (act): Case => ({
      what: `${act}, after the first words`,
      groups: { m: { a: { ...first(act), stream_timeout: 0.5 }, b: then("ok") } },
      fallbacks: { m: ["n"] },
      stream: {
        ...{ tried: "a", begun: true, charged: [1] },
        end: act === "stalled" ? "provider_timeout" : act === "failsLater" ? "provider_error" : "stream_interrupted",
      },
    }),
  ),
  {
    what: "the client repeats what may be repeated",
    groups: { m: { a: first("away", "ok") } },
    fields: none,
    clientRetries: 2,
    ...both({ tried: "a a", end: "ok" }),
  },
  {
    what: "the client does not repeat what was repeated",
    groups: { m: { a: first("away"), b: then("away") } },
    fields: { num_retries: 1 },
    clientRetries: 2,
    ...both({ tried: "a b", end: "provider_unavailable", retries: 1, shouldRetry: false, message: /after 2 attempts/ }),
  },
];

/** How often, and where. */
const repeated: readonly Case[] = [
  {
    what: "a deployment that is alone is tried again after a pause",
    groups: { m: { a: first("broken", "ok") } },
    ...both({ tried: "a a", end: "ok", retries: 1 }),
    takesMs: [500, 4_000],
  },
  {
    what: "and again, as the configuration says",
    groups: { m: { a: first("broken") } },
    whole: { tried: "a a a", end: "provider_error", retries: 2, shouldRetry: false, message: /after 3 attempts/ },
  },
  {
    what: "as often as the deployment says",
    groups: { m: { a: { does: ["broken"], num_retries: 1 } } },
    whole: { tried: "a a", end: "provider_error", retries: 1, shouldRetry: false },
  },
  {
    what: "as often as the header says",
    groups: { m: { a: first("broken") } },
    headers: { "x-litellm-num-retries": "1" },
    whole: { tried: "a a", end: "provider_error", retries: 1, shouldRetry: false },
  },
  {
    what: "as often as the policy of its group says",
    groups: { m: { a: first("broken", "away") } },
    retryPolicy: { InternalServerErrorRetries: 1, ServiceUnavailableErrorRetries: 0 },
    whole: { tried: "a a", end: "provider_unavailable", retries: 1, shouldRetry: false },
  },
  {
    what: "whatever it is, if the policy names it",
    groups: { m: { a: first("rejected", "ok") } },
    retryPolicy: { BadRequestErrorRetries: 1 },
    ...both({ tried: "a a", end: "ok", retries: 1 }),
  },
  {
    what: "not what the caller got wrong",
    groups: { m: { a: first("rejected"), b: then("ok") } },
    ...both({ tried: "a", end: "provider_rejected" }),
  },
  {
    what: "not the same deployment with the same credentials",
    groups: { m: { a: first("badKey") } },
    ...both({ tried: "a", end: "provider_auth_failed" }),
  },
  {
    what: "no sooner than the provider asks",
    groups: { m: { a: first("busyForASecond", "ok") } },
    ...both({ tried: "a a", end: "ok", retries: 1 }),
    takesMs: [1_000, 4_000],
  },
  {
    what: "not if the provider asks for too long",
    groups: { m: { a: first("busyForAMinute") } },
    whole: { tried: "a", end: "provider_rate_limited", retryAfterMs: 60_000 },
  },
  {
    what: "when all are busy for a moment, as soon as one is free",
    groups: { m: { a: first("busyForAMoment", "ok"), b: then("busyForAMoment", "ok") } },
    // Their cooldowns may end a little later than a busy machine's clock says.
    fields: { num_retries: 4 },
    ...both({ tried: "a b a", end: "ok", retries: 2 }),
    takesMs: [300, 4_000],
  },
  {
    what: "the next order, as a retry",
    groups: { m: { a: { does: ["away"], order: 1 }, b: { does: ["ok"], order: 2 } } },
    ...both(second),
  },
  {
    what: "the next order, when there are no retries",
    groups: { m: { a: { does: ["away"], order: 1 }, b: { does: ["ok"], order: 2 } } },
    fields: none,
    ...both({ tried: "a b", end: "ok", fallbacks: 1 }),
  },
  {
    what: "every order in turn",
    groups: {
      m: { a: { does: ["away"], order: 1 }, b: { does: ["broken"], order: 2 }, c: { does: ["ok"], order: 3 } },
    },
    fields: none,
    ...both({ tried: "a b c", end: "ok", fallbacks: 2 }),
  },
  {
    what: "not the same order, unless so configured",
    groups: { m: { a: first("away"), b: then("ok") } },
    fields: none,
    ...both({ tried: "a", end: "provider_unavailable" }),
  },
];

/** Other models. */
const elsewhere: readonly Case[] = [
  {
    what: "the fallback, after the retries",
    groups: { m: { a: first("away"), b: then("broken") }, n: { c: first("ok") } },
    fallbacks: { m: ["n"] },
    fields: { num_retries: 1 },
    ...both({ tried: "a b c", end: "ok", retries: 1, fallbacks: 1 }),
  },
  {
    what: "fallbacks one after the other, and those of the last",
    groups: { m: { a: first("away") }, n: { b: first("broken") }, o: { c: first("badKey") }, p: { d: first("ok") } },
    fallbacks: { m: ["n", "o"], o: ["p"] },
    fields: none,
    ...both({ tried: "a b c d", end: "ok", fallbacks: 3 }),
  },
  {
    what: "no group twice",
    groups: { m: { a: first("away") }, n: { b: first("away") } },
    fallbacks: { m: ["n"], n: ["m"] },
    fields: none,
    ...both({
      tried: "a b",
      end: "provider_unavailable",
      fallbacks: 1,
      shouldRetry: false,
      message: /fallbacks that failed too: s\d+[ws]-n/,
    }),
  },
  {
    what: "the fallback at once when its own are busy",
    groups: { m: { a: first("busyForASecond") }, n: { b: first("ok") } },
    fallbacks: { m: ["n"] },
    ...both({ tried: "a b", end: "ok", fallbacks: 1 }),
  },
  {
    what: "a longer model",
    groups: { m: { a: first("tooLong") }, n: { b: first("broken") }, l: { c: first("ok") } },
    fallbacks: { m: ["n"] },
    contextWindowFallbacks: { m: ["l"] },
    ...both({ tried: "a c", end: "ok", fallbacks: 1 }),
  },
  {
    what: "a model that is less shy",
    groups: { m: { a: first("indecent") }, n: { b: first("broken") }, l: { c: first("ok") } },
    fallbacks: { m: ["n"] },
    contentPolicyFallbacks: { m: ["l"] },
    ...both({ tried: "a c", end: "ok", fallbacks: 1 }),
  },
  {
    what: "a model the call names",
    groups: { m: { a: first("away") }, n: { b: first("broken") }, l: { c: first("ok") } },
    fallbacks: { m: ["n"] },
    clientFallbacks: ["l"],
    fields: none,
    ...both({ tried: "a c", end: "ok", fallbacks: 1 }),
  },
  {
    what: "nowhere if the call names what its key may not use",
    groups: { m: { a: first("ok") }, l: { c: first("ok") } },
    clientFallbacks: ["l"],
    allowed: ["m"],
    ...both({ tried: "", end: "model_not_allowed" }),
  },
  {
    what: "nowhere if the call forbids it",
    groups: { m: { a: first("away") }, n: { b: first("ok") } },
    fallbacks: { m: ["n"] },
    fields: { num_retries: 0, disable_fallbacks: true },
    ...both({ tried: "a", end: "provider_unavailable" }),
  },
  ...(
    [
      ["mock_testing_fallbacks", "b"],
      ["mock_testing_rate_limit_error", "b"],
      ["mock_testing_context_fallbacks", "c"],
      ["mock_testing_content_policy_fallbacks", "d"],
    ] as const
  ).map(
    ([hook, tried]): Case => ({
      what: `where ${hook} leads`,
      groups: { m: { a: first("ok") }, n: { b: first("ok") }, o: { c: first("ok") }, p: { d: first("ok") } },
      fallbacks: { m: ["n"] },
      contextWindowFallbacks: { m: ["o"] },
      contentPolicyFallbacks: { m: ["p"] },
      fields: { [hook]: true },
      ...both({ tried, end: "ok", fallbacks: 1 }),
    }),
  ),
];

/** One deadline over all attempts. */
const deadlines: readonly Case[] = [
  {
    what: "an attempt gets what is left of the call's time",
    groups: { m: { a: { ...first("silent"), timeout: 0.4, stream_timeout: 0.4 }, b: then("silent") } },
    fields: { timeout: 1.4 },
    ...both({ tried: "a b", end: "provider_timeout", retries: 1, shouldRetry: false, charged: [1, 2] }),
    takesMs: [1_400, 2_600],
  },
  {
    what: "no attempt is begun after the call's time",
    groups: { m: { a: first("broken") } },
    // The second pause would be a second long.
    headers: { "x-litellm-timeout": "1.4" },
    whole: { tried: "a a", end: "provider_error", retries: 1, shouldRetry: false },
  },
  {
    what: "no fallback is tried after the call's time",
    groups: { m: { a: first("silent") }, n: { b: first("ok") } },
    fallbacks: { m: ["n"] },
    fields: { timeout: 0.3 },
    ...both({ tried: "a", end: "provider_timeout", charged: [1] }),
    takesMs: [300, 1_900],
  },
];

export const cases: readonly Case[] = [...invisible, ...visible, ...repeated, ...elsewhere, ...deadlines];

/** Where the configuration repeats, and falls back, for every model. */
export const casesOfAll: readonly Case[] = [
  {
    what: "the others of its order, by weight, as failover",
    groups: {
      m: { a: { ...first("away"), order: 1 }, b: { ...then("broken"), order: 1 }, c: { does: ["ok"], order: 2 } },
    },
    fields: none,
    ...both({ tried: "a b c", end: "ok", fallbacks: 2 }),
  },
  {
    what: "as often as the policy for all says",
    groups: { m: { a: first("away") } },
    fields: { disable_fallbacks: true },
    ...both({ tried: "a a", end: "provider_unavailable", retries: 1, shouldRetry: false }),
  },
  {
    what: "not what the policy says is not to be repeated",
    groups: { m: { a: { does: ["silent"], timeout: 0.3, stream_timeout: 0.3 } } },
    fields: { disable_fallbacks: true },
    ...both({ tried: "a", end: "provider_timeout", charged: [1] }),
  },
  {
    what: "no more fallbacks than configured",
    groups: { m: { a: first("away") }, n: { b: first("away") }, o: { c: first("away") }, p: { d: first("ok") } },
    fallbacks: { m: ["n", "o", "p"], n: ["o"], o: ["p"] },
    fields: none,
    ...both({ tried: "a b c", end: "provider_unavailable", fallbacks: 2, shouldRetry: false }),
  },
  {
    what: "the fallback of all models, where it has none of its own",
    groups: { m: { a: first("away") }, n: { b: first("ok") } },
    fields: none,
    whole: { tried: "a b", end: "ok", fallbacks: 1 },
  },
];
