import type { CallCells } from "./call-cells.ts";
import { type MetricFamily, merged, type Sample, summed } from "./metric-family.ts";

/** The metrics of calls and attempts. Labels are bounded: configured names, codes and teams, never keys, users or ids. */
export function callMetrics(cells: CallCells): readonly MetricFamily[] {
  const { calls, attempts, fallbacks } = cells;
  return [
    {
      name: "tollgate_requests_total",
      help: "Calls, by how they ended (code: an error code of the README's table, or ok) and the provider asked last (cache, or none).",
      type: "counter",
      read: () =>
        summed(
          calls,
          ({ route, model, provider, code, stream }) => ({ route, model, provider, code, stream: String(stream) }),
          ({ count }) => count,
        ),
    },
    {
      name: "tollgate_request_duration_seconds",
      help: "Calls from their request to the last byte out.",
      type: "histogram",
      read: () => merged(calls, callLabels, ({ durations }) => durations),
    },
    {
      name: "tollgate_gateway_overhead_seconds",
      help: "What a call took before its first provider attempt and after its last: the gateway's own share, waiting for room included.",
      type: "histogram",
      read: () => merged(calls, callLabels, ({ overheads }) => overheads),
    },
    {
      name: "tollgate_requests_in_flight",
      help: "Calls under way.",
      type: "gauge",
      read: () => [{ labels: {}, value: cells.inFlight }],
    },
    {
      name: "tollgate_rejected_total",
      help: "Calls that were refused before any provider was asked, by why (an error code).",
      type: "counter",
      read: () =>
        summed(
          calls,
          ({ code, provider, model }) => (code === "ok" || provider !== "none" ? undefined : { reason: code, model }),
          ({ count }) => count,
        ),
    },
    {
      name: "tollgate_upstream_attempts_total",
      help: "Provider attempts, by outcome (an error code, or ok).",
      type: "counter",
      read: () =>
        summed(
          attempts,
          ({ target, outcome }) => ({ provider: target.provider, model: target.modelGroup, outcome }),
          ({ count }) => count,
        ),
    },
    {
      name: "tollgate_upstream_duration_seconds",
      help: "Provider attempts from their start until they were booked.",
      type: "histogram",
      read: () =>
        merged(
          attempts,
          ({ target }) => ({ provider: target.provider, model: target.modelGroup }),
          ({ durations }) => durations,
        ),
    },
    {
      name: "tollgate_time_to_first_token_seconds",
      help: "Streams: from the start of a provider attempt to its first output.",
      type: "histogram",
      read: () =>
        merged(
          attempts,
          ({ target }) => ({ model: target.modelGroup, provider: target.provider }),
          ({ firstOutputs }) => firstOutputs,
        ),
    },
    {
      name: "tollgate_fallbacks_total",
      help: "Calls that went on in another model group, by the failure that sent them there.",
      type: "counter",
      read: () =>
        summed(
          fallbacks,
          ({ from, to, reason }) => ({ from, to, reason }),
          ({ count }) => count,
        ),
    },
    {
      name: "tollgate_tokens_total",
      help: "Tokens booked. Cached ones are part of input, reasoning is part of output.",
      type: "counter",
      read: () => tokens(cells),
    },
    {
      name: "tollgate_cost_usd_total",
      help: "Money booked, in US dollars, by team id (none: the key has no team). For watching; the ledger is what is billed.",
      type: "counter",
      read: () =>
        summed(
          attempts,
          ({ target, owner }) => ({ model: target.modelGroup, team: owner.teamId || "none" }),
          ({ costNanos }) => costNanos / 1e9,
        ),
    },
    {
      name: "tollgate_label_overflows_total",
      help: "Calls and attempts whose key is told as other, because there are too many to tell them apart.",
      type: "counter",
      read: () => [{ labels: {}, value: cells.overflows }],
    },
  ];
}

function callLabels({ route, model }: { readonly route: string; readonly model: string }) {
  return { route, model };
}

const tokenKinds = {
  input: "inputTokens",
  output: "outputTokens",
  cache_read: "cacheReadTokens",
  cache_write: "cacheWriteTokens",
  reasoning: "reasoningTokens",
} as const;

function tokens({ attempts }: CallCells): Iterable<Sample> {
  return Object.entries(tokenKinds).flatMap(([kind, field]) => [
    ...summed(
      attempts,
      ({ target }) => ({ model: target.modelGroup, kind }),
      (cell) => cell[field],
    ),
  ]);
}
