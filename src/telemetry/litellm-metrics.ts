/**
 * What was counted, under the names that dashboards made for LiteLLM ask for. `hashed_api_key` is the key's id. Labels that would hold
 * what callers choose or what is theirs (`end_user`, `user_email`, `client_ip`, `user_agent`) are left out, and histograms are told by team:
 * by key they would be most of what Prometheus reads.
 */

import { type ErrorCode, errorTable } from "../errors.ts";
import type { AttemptCell, CallCell, CallCells, Owner, Target } from "./call-cells.ts";
import { type Histogram, type Labels, type MetricFamily, merged, type Sample, summed } from "./metric-family.ts";

/** As LiteLLM says that there is none. */
const none = "None";

/** LiteLLM's names for what was counted of calls. */
export function litellmMetrics(cells: CallCells): readonly MetricFamily[] {
  return [...ofItsGuide(cells), ...ofCalls(cells), ...ofAttempts(cells), ...ofDeployments(cells)];
}

function ofItsGuide({ calls, attempts }: CallCells): readonly MetricFamily[] {
  const typed = (type: string, tokensOf: (cell: AttemptCell) => number) => [
    ...summed(attempts, ({ target }) => ({ model: target.modelGroup, type }), tokensOf),
  ];
  return [
    counter("litellm_requests_total", "Calls.", () =>
      summed(
        calls,
        ({ model, code, isFallback }) => ({ model, status_code: statusOf(code), fallback: String(isFallback) }),
        countOf,
      ),
    ),
    histogram("litellm_request_duration_seconds", "How long calls took.", () =>
      merged(
        calls,
        ({ model }) => ({ model }),
        ({ durations }) => durations,
      ),
    ),
    counter("litellm_tokens_total", "Tokens booked, by type (input, output).", () => [
      ...typed("input", ({ inputTokens }) => inputTokens),
      ...typed("output", ({ outputTokens }) => outputTokens),
    ]),
    counter("litellm_spend_total", "Money booked, in US dollars.", () =>
      summed(attempts, ({ target, owner }) => ({ model: target.modelGroup, team: owner.teamId || none }), costOf),
    ),
  ];
}

function ofCalls({ calls, fallbacks, ...cells }: CallCells): readonly MetricFamily[] {
  const callLabels = ({ owner, model, route }: CallCell) => ({ ...ownerLabels(owner), requested_model: model, route });
  return [
    counter("litellm_proxy_total_requests_metric_total", "Calls.", () =>
      summed(calls, (cell) => ({ ...callLabels(cell), status_code: statusOf(cell.code) }), countOf),
    ),
    counter("litellm_proxy_failed_requests_metric_total", "Calls that failed.", () =>
      summed(
        calls,
        (cell) => (cell.code === "ok" ? undefined : { ...callLabels(cell), ...exceptionLabels(cell.code, "") }),
        countOf,
      ),
    ),
    histogram("litellm_request_total_latency_metric", "How long calls took, in seconds.", () =>
      merged(
        calls,
        ({ owner, model }) => ({ team: owner.teamId || none, requested_model: model }),
        ({ durations }) => durations,
      ),
    ),
    histogram("litellm_overhead_latency_metric", "The gateway's own share of it, in seconds.", () =>
      merged(
        calls,
        ({ model, provider }) => ({ model_group: model, api_provider: provider }),
        ({ overheads }) => overheads,
      ),
    ),
    counter("litellm_cache_hits_metric_total", "Calls answered with an answer given before.", () =>
      summed(
        calls,
        ({ owner, model, provider }) => (provider === "cache" ? { ...ownerLabels(owner), model } : undefined),
        countOf,
      ),
    ),
    {
      name: "litellm_in_flight_requests",
      help: "Calls under way.",
      type: "gauge",
      read: () => [{ labels: {}, value: cells.inFlight }],
    },
    ...[true, false].map((wanted) =>
      counter(
        `litellm_deployment_${wanted ? "successful" : "failed"}_fallbacks_total`,
        `Fallbacks that were ${wanted ? "" : "not "}answered.`,
        () =>
          summed(
            fallbacks,
            ({ from, to, reason, isAnswered }) =>
              isAnswered === wanted
                ? { requested_model: from, fallback_model: to, ...exceptionLabels(reason, "") }
                : undefined,
            countOf,
          ),
      ),
    ),
  ];
}

function ofAttempts({ attempts }: CallCells): readonly MetricFamily[] {
  const labelsOf = ({ owner, target, requested }: AttemptCell) => ({
    ...ownerLabels(owner),
    ...{ model: target.model, requested_model: requested, model_id: target.deploymentId },
  });
  const sum = (name: string, help: string, figureOf: (cell: AttemptCell) => number) =>
    counter(name, help, () => summed(attempts, labelsOf, figureOf));
  const byTeam = ({ owner: { teamId }, target: { model, deploymentId }, requested }: AttemptCell) => ({
    ...{ team: teamId || none, model, requested_model: requested, model_id: deploymentId },
  });
  const times = (name: string, help: string, histogramOf: (cell: AttemptCell) => Histogram) =>
    histogram(name, help, () => merged(attempts, byTeam, histogramOf));
  return [
    sum("litellm_requests_metric_total", "Provider attempts that were answered.", (cell) => answeredOf(cell)),
    sum("litellm_spend_metric_total", "Money booked, in US dollars.", costOf),
    sum("litellm_total_tokens_metric_total", "Tokens booked.", (cell) => cell.inputTokens + cell.outputTokens),
    sum("litellm_input_tokens_metric_total", "Tokens read.", ({ inputTokens }) => inputTokens),
    sum("litellm_output_tokens_metric_total", "Tokens written.", ({ outputTokens }) => outputTokens),
    times("litellm_llm_api_latency_metric", "How long provider attempts took, in seconds.", (cell) => cell.durations),
    times(
      "litellm_llm_api_time_to_first_token_metric",
      "Streams: seconds from the start of a provider attempt to its first output.",
      (cell) => cell.firstOutputs,
    ),
  ];
}

function ofDeployments({ attempts }: CallCells): readonly MetricFamily[] {
  const labelsOf = ({ owner: { keyId, keyAlias, teamId }, target, requested }: AttemptCell) => ({
    requested_model: requested,
    ...targetLabels(target),
    ...{ hashed_api_key: keyId || none, api_key_alias: keyAlias || none, team: teamId || none },
  });
  return [
    counter("litellm_deployment_total_requests_total", "Provider attempts.", () => summed(attempts, labelsOf, countOf)),
    counter("litellm_deployment_success_responses_total", "Provider attempts that were answered.", () =>
      summed(attempts, labelsOf, answeredOf),
    ),
    counter("litellm_deployment_failure_responses_total", "Provider attempts that failed.", () =>
      summed(
        attempts,
        (cell) =>
          cell.outcome === "ok"
            ? undefined
            : { ...labelsOf(cell), ...exceptionLabels(cell.outcome, cell.target.provider) },
        countOf,
      ),
    ),
    histogram("litellm_deployment_latency_per_output_token", "Seconds an answer took for each of its tokens.", () =>
      merged(
        attempts,
        ({ owner, target, requested }) => ({
          requested_model: requested,
          ...targetLabels(target),
          team: owner.teamId || none,
        }),
        ({ perToken }) => perToken,
      ),
    ),
  ];
}

/** What a deployment is told under. */
export function targetLabels({ model, deploymentId, apiBase, provider }: Omit<Target, "modelGroup">): Labels {
  return { litellm_model_name: model, model_id: deploymentId, api_base: apiBase, api_provider: provider };
}

function ownerLabels({ keyId, keyAlias, teamId, userId }: Owner): Labels {
  return {
    hashed_api_key: keyId || none,
    api_key_alias: keyAlias || none,
    team: teamId || none,
    user: userId || none,
  };
}

/** The class is the code in LiteLLM's spelling: `Openai.ProviderRateLimited`. */
function exceptionLabels(code: string, provider: string): Labels {
  const name = [provider, code].filter(Boolean).map(camelCase).join(".");
  return { exception_status: statusOf(code), exception_class: name };
}

function camelCase(text: string): string {
  return text.replace(/(?:^|[_-])([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function statusOf(code: string): string {
  return code === "ok" ? "200" : String(errorTable[code as ErrorCode].httpStatus);
}

function countOf({ count }: { readonly count: number }): number {
  return count;
}

function costOf({ costNanos }: AttemptCell): number {
  return costNanos / 1e9;
}

function answeredOf({ outcome, count }: AttemptCell): number {
  return outcome === "ok" ? count : 0;
}

function counter(name: string, help: string, read: () => Iterable<Sample>): MetricFamily {
  return { name, help: `${help} LiteLLM's name for it.`, type: "counter", read };
}

function histogram(name: string, help: string, read: () => ReturnType<typeof merged>): MetricFamily {
  return { name, help: `${help} LiteLLM's name for it.`, type: "histogram", read };
}
