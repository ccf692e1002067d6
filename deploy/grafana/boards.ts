import type { Board } from "./board.ts";

/** Failures that are not the caller's own: what the availability objective counts. */
const ours =
  'code=~"provider_(rate_limited|auth_failed|model_not_found|error|unavailable|timeout)|stream_interrupted|deployments_full|unpriced_model|keyservice_unavailable|counters_unavailable|journal_unavailable|internal_error"';

const interval = "[$__rate_interval]";
const requests = `sum(rate(tollgate_requests_total${interval}))`;

/** A share of a histogram's values, by labels. */
function quantile(share: number, name: string, by = ""): string {
  const labels = ["le", ...(by === "" ? [] : [by])].join(", ");
  return `histogram_quantile(${share}, sum by (${labels}) (rate(${name}_bucket${interval})))`;
}

const overview: Board = {
  uid: "tollgate-overview",
  title: "Overview",
  about: "Whether calls are answered, how quickly, and what the gateway itself adds.",
  rows: [
    {
      title: "Calls",
      panels: [
        {
          title: "Calls a second",
          about: "All calls, refused ones included.",
          unit: "reqps",
          kind: "number",
          width: 6,
          queries: [[requests, "calls"]],
        },
        {
          title: "Success rate",
          about: "Calls that were answered, of all. What callers got wrong counts as not answered here.",
          unit: "percentunit",
          kind: "number",
          width: 6,
          queries: [[`sum(rate(tollgate_requests_total{code="ok"}${interval})) / ${requests}`, "answered"]],
        },
        {
          title: "Availability",
          about:
            "Calls that did not fail by the gateway's, an operator's or a provider's fault: what the alerts of the objective count.",
          unit: "percentunit",
          kind: "number",
          width: 6,
          queries: [
            [`1 - (sum(rate(tollgate_requests_total{${ours}}${interval})) or vector(0)) / ${requests}`, "available"],
          ],
        },
        {
          title: "In flight",
          about: "Calls under way now.",
          unit: "short",
          kind: "number",
          width: 6,
          queries: [["sum(tollgate_requests_in_flight)", "calls"]],
        },
        {
          title: "Calls by route",
          about: "Calls a second by the route they came in at.",
          unit: "reqps",
          queries: [[`sum by (route) (rate(tollgate_requests_total${interval}))`, "{{route}}"]],
        },
        {
          title: "Failures by code",
          about: "Every call that was not answered, by error code; the README has a table of them.",
          unit: "reqps",
          queries: [[`sum by (code) (rate(tollgate_requests_total{code!="ok"}${interval}))`, "{{code}}"]],
        },
        {
          title: "Refused before a provider was asked",
          about: "Keys, whitelists, limits and budgets at work.",
          unit: "reqps",
          queries: [[`sum by (reason) (rate(tollgate_rejected_total${interval}))`, "{{reason}}"]],
        },
      ],
    },
    {
      title: "Time",
      panels: [
        {
          title: "Duration",
          about: "From a request to the last byte of its answer.",
          unit: "s",
          hasExemplars: true,
          queries: [
            [quantile(0.5, "tollgate_request_duration_seconds"), "p50"],
            [quantile(0.95, "tollgate_request_duration_seconds"), "p95"],
            [quantile(0.99, "tollgate_request_duration_seconds"), "p99"],
          ],
        },
        {
          title: "p95 by model",
          about: "95 of 100 calls to the model are quicker.",
          unit: "s",
          queries: [[quantile(0.95, "tollgate_request_duration_seconds", "model"), "{{model}}"]],
        },
        {
          title: "Gateway overhead",
          about: "The gateway's own share of a call, waiting for room included. Worry above 50 ms.",
          unit: "s",
          queries: [
            [quantile(0.5, "tollgate_gateway_overhead_seconds"), "p50"],
            [quantile(0.99, "tollgate_gateway_overhead_seconds"), "p99"],
          ],
        },
        {
          title: "Time to first token, p95",
          about: "Of streams, from the start of the provider attempt.",
          unit: "s",
          queries: [[quantile(0.95, "tollgate_time_to_first_token_seconds", "model"), "{{model}}"]],
        },
        {
          title: "Tokens a second",
          about: "By kind; cached ones are part of input, reasoning is part of output.",
          unit: "short",
          queries: [[`sum by (kind) (rate(tollgate_tokens_total${interval}))`, "{{kind}}"]],
        },
        {
          title: "Fallback rate",
          about: "Changes to another model group for each call. Worry above 5 %.",
          unit: "percentunit",
          queries: [[`sum(rate(tollgate_fallbacks_total${interval})) / ${requests}`, "fallbacks"]],
        },
      ],
    },
  ],
};

const attempts = `rate(tollgate_upstream_attempts_total${interval})`;

const providers: Board = {
  uid: "tollgate-providers",
  title: "Providers",
  about: "How providers and deployments answer, and where calls go when they do not.",
  rows: [
    {
      title: "Attempts",
      panels: [
        {
          title: "Attempts by provider",
          about: "One call may take several.",
          unit: "reqps",
          queries: [[`sum by (provider) (${attempts})`, "{{provider}}"]],
        },
        {
          title: "Failure ratio by provider",
          about: "Attempts that failed, of all; those that callers broke off do not count.",
          unit: "percentunit",
          queries: [
            [
              `sum by (provider) (rate(tollgate_upstream_attempts_total{outcome!~"ok|client_closed_request"}${interval})) / sum by (provider) (${attempts})`,
              "{{provider}}",
            ],
          ],
        },
        {
          title: "Failures by outcome",
          about: "What providers failed with, as error codes.",
          unit: "reqps",
          queries: [
            [
              `sum by (provider, outcome) (rate(tollgate_upstream_attempts_total{outcome!="ok"}${interval}))`,
              "{{provider}} {{outcome}}",
            ],
          ],
        },
        {
          title: "Rate limited by providers",
          about: "429s. More deployments, or a lower rpm and tpm on them, help.",
          unit: "reqps",
          queries: [
            [
              `sum by (provider, model) (rate(tollgate_upstream_attempts_total{outcome="provider_rate_limited"}${interval}))`,
              "{{provider}} {{model}}",
            ],
          ],
        },
        {
          title: "Attempt duration, p95",
          about: "From the start of an attempt until it was booked.",
          unit: "s",
          queries: [[quantile(0.95, "tollgate_upstream_duration_seconds", "provider"), "{{provider}}"]],
        },
        {
          title: "Time to first token, p95",
          about: "Of streams.",
          unit: "s",
          queries: [[quantile(0.95, "tollgate_time_to_first_token_seconds", "provider"), "{{provider}}"]],
        },
      ],
    },
    {
      title: "Health",
      panels: [
        {
          title: "Deployments left alone",
          about: "2: left alone after failures, 1: to be tried by one call, 0: in use.",
          unit: "short",
          queries: [["max by (deployment, model) (tollgate_circuit_state)", "{{model}} {{deployment}}"]],
        },
        {
          title: "Cooldowns",
          about: "How often deployments were left alone in the last hour, by the failure.",
          unit: "short",
          queries: [["sum by (model, code) (increase(tollgate_cooldowns_total[1h]))", "{{model}} {{code}}"]],
        },
        {
          title: "Fallbacks",
          about: "Where calls went on, and why.",
          unit: "reqps",
          queries: [
            [`sum by (from, to, reason) (rate(tollgate_fallbacks_total${interval}))`, "{{from}} to {{to}}: {{reason}}"],
          ],
        },
      ],
    },
  ],
};

const budgetLabels = "scope, id, alias, model, window";
const used = `max by (${budgetLabels}) (tollgate_budget_spent_usd)`;
const limits = `max by (${budgetLabels}) (tollgate_budget_limit_usd)`;

const money: Board = {
  uid: "tollgate-money",
  title: "Money",
  about: "What is spent, by whom, and how far budgets are. The ledger is what is billed.",
  rows: [
    {
      title: "Spend",
      panels: [
        {
          title: "Last 24 hours",
          about: "Booked in the last day.",
          unit: "currencyUSD",
          kind: "number",
          width: 12,
          queries: [["sum(increase(tollgate_cost_usd_total[24h]))", "spent"]],
        },
        {
          title: "An hour, at this rate",
          about: "What an hour costs if it goes on as it does now.",
          unit: "currencyUSD",
          kind: "number",
          width: 12,
          queries: [[`sum(rate(tollgate_cost_usd_total${interval})) * 3600`, "an hour"]],
        },
        {
          title: "Hourly cost by team",
          about: "Dollars in the last hour; none: keys without a team.",
          unit: "currencyUSD",
          queries: [["sum by (team) (increase(tollgate_cost_usd_total[1h]))", "{{team}}"]],
        },
        {
          title: "Hourly cost by model",
          about: "Dollars in the last hour.",
          unit: "currencyUSD",
          queries: [["sum by (model) (increase(tollgate_cost_usd_total[1h]))", "{{model}}"]],
        },
        {
          title: "Dearest keys of the last 24 hours",
          about: "At most 500 keys a sidecar are told apart; the rest are other.",
          unit: "currencyUSD",
          kind: "table",
          queries: [
            [
              "topk(10, sum by (api_key_alias, hashed_api_key) (increase(litellm_spend_metric_total[24h])))",
              "{{api_key_alias}}",
            ],
          ],
        },
      ],
    },
    {
      title: "Budgets",
      panels: [
        {
          title: "Used of each budget",
          about: "The twenty with the least left, in their current periods.",
          unit: "percentunit",
          kind: "table",
          width: 12,
          queries: [[`topk(20, ${used} / (${limits} > 0))`, "{{scope}} {{id}}"]],
        },
        {
          title: "Used of team budgets",
          about: "In the current period.",
          unit: "percentunit",
          width: 12,
          queries: [
            [
              'max by (id, alias, window) (tollgate_budget_spent_usd{scope="team"}) / max by (id, alias, window) (tollgate_budget_limit_usd{scope="team"} > 0)',
              "{{id}} {{alias}} {{window}}",
            ],
          ],
        },
        {
          title: "Lent to pods",
          about: "Of the budgets: reserved for calls, and not spent yet.",
          unit: "currencyUSD",
          queries: [[`topk(10, max by (${budgetLabels}) (tollgate_budget_reserved_usd))`, "{{scope}} {{id}}"]],
        },
        {
          title: "Refused for a budget",
          about: "Calls that a budget had no room for.",
          unit: "reqps",
          queries: [
            [`sum by (model) (rate(tollgate_rejected_total{reason="budget_exceeded"}${interval}))`, "{{model}}"],
          ],
        },
        {
          title: "Calls without a price",
          about: "In the last hour. Set input_cost_per_token and output_cost_per_token on the model.",
          unit: "short",
          queries: [["sum by (model) (increase(tollgate_unpriced_model_requests_total[1h]))", "{{model}}"]],
        },
      ],
    },
  ],
};

const ledger: Board = {
  uid: "tollgate-ledger",
  title: "Ledger health",
  about: "Whether what was spent is booked, and what stands on hold until it is.",
  rows: [
    {
      title: "Journals",
      panels: [
        {
          title: "Records waiting",
          about: "In the journals of the pods, until the KeyService confirms them.",
          unit: "short",
          queries: [["sum by (instance) (tollgate_usage_wal_pending)", "{{instance}}"]],
        },
        {
          title: "Oldest waiting record",
          about: "Worry above two minutes.",
          unit: "s",
          queries: [["max by (instance) (tollgate_usage_wal_oldest_seconds)", "{{instance}}"]],
        },
        {
          title: "Journals on disk",
          about: "They shrink when what they hold is booked.",
          unit: "bytes",
          queries: [["sum by (instance) (tollgate_usage_wal_bytes)", "{{instance}}"]],
        },
        {
          title: "Booked and confirmed",
          about: "Records a second: booked by the KeyService, confirmed to pods, and those that came twice.",
          unit: "short",
          queries: [
            [`sum(rate(tollgate_usage_booked_total${interval}))`, "booked"],
            [`sum(rate(tollgate_usage_acked_total${interval}))`, "confirmed"],
            [`sum(rate(tollgate_usage_duplicates_total${interval}))`, "came twice"],
          ],
        },
        {
          title: "Time to the books, p99",
          about: "From the end of an attempt until it was booked.",
          unit: "s",
          queries: [[quantile(0.99, "tollgate_settlement_lag_seconds"), "p99"]],
        },
        {
          title: "Not booked by itself",
          about:
            "Journal stretches that could not be read, records that were refused, writes that failed. Anything but 0 wants a look at the log.",
          unit: "short",
          queries: [
            ["sum by (cause) (tollgate_usage_lost_total)", "{{cause}}"],
            ["sum(tollgate_usage_wal_failures_total)", "writes failed"],
          ],
        },
      ],
    },
    {
      title: "Leases",
      panels: [
        {
          title: "Money on the pods",
          about: "Free, and reserved by calls under way.",
          unit: "currencyUSD",
          queries: [
            ["sum(tollgate_lease_room_usd)", "free"],
            ["sum(tollgate_lease_reserved_usd)", "reserved"],
            ["max(tollgate_lent_usd)", "lent, by the books"],
          ],
        },
        {
          title: "Asks for money",
          about: "What became of them.",
          unit: "reqps",
          queries: [[`sum by (outcome) (rate(tollgate_lease_requests_total${interval}))`, "{{outcome}}"]],
        },
        {
          title: "Unconfirmed",
          about: "Charged for leases of pods that were not heard any more; corrected when their journals come in.",
          unit: "currencyUSD",
          queries: [["max(tollgate_unconfirmed_usd)", "unconfirmed"]],
        },
      ],
    },
    {
      title: "Who answers whom",
      panels: [
        {
          title: "Dependencies",
          about: "1: answers.",
          unit: "short",
          queries: [["min by (dep) (tollgate_dependency_up)", "{{dep}}"]],
        },
        {
          title: "Age of what pods know",
          about: "Since the KeyService was heard; at the limit cached keys stop serving.",
          unit: "s",
          queries: [
            ["max(tollgate_policy_age_seconds)", "oldest"],
            ["min(tollgate_policy_age_limit_seconds)", "limit"],
          ],
        },
        {
          title: "Limits without Redis",
          about: "Calls a second whose limits a pod decided alone.",
          unit: "reqps",
          queries: [[`sum by (instance) (rate(tollgate_limits_degraded_total${interval}))`, "{{instance}}"]],
        },
      ],
    },
  ],
};

const runtime: Board = {
  uid: "tollgate-runtime",
  title: "Runtime",
  about: "The processes, and the KeyService's doors.",
  rows: [
    {
      title: "Processes",
      panels: [
        {
          title: "CPU",
          about: "Cores used. A process uses one for its calls.",
          unit: "short",
          queries: [[`rate(process_cpu_seconds_total${interval})`, "{{instance}}"]],
        },
        {
          title: "Memory",
          about: "Resident.",
          unit: "bytes",
          queries: [["process_resident_memory_bytes", "{{instance}}"]],
        },
        {
          title: "Event loop delay, p99",
          about: "How long work waits for its turn. Worry above 50 ms.",
          unit: "s",
          queries: [["nodejs_eventloop_lag_p99_seconds", "{{instance}}"]],
        },
        {
          title: "Garbage collection",
          about: "Share of the time.",
          unit: "percentunit",
          queries: [[`sum by (instance) (rate(nodejs_gc_duration_seconds_sum${interval}))`, "{{instance}}"]],
        },
        {
          title: "Open files",
          about: "Sockets included.",
          unit: "short",
          queries: [["process_open_fds", "{{instance}}"]],
        },
        {
          title: "Certificates",
          about: "How long they hold; each is to be renewed long before its end.",
          unit: "s",
          queries: [
            ["min by (instance, use) (tollgate_certificate_expiry_timestamp_seconds) - time()", "{{instance}} {{use}}"],
          ],
        },
        {
          title: "Spans given up",
          about: "A second: a collector or Langfuse did not take them.",
          unit: "short",
          queries: [
            [
              `sum by (instance, destination) (rate(tollgate_telemetry_dropped_total${interval}))`,
              "{{instance}} {{destination}}",
            ],
          ],
        },
        {
          title: "Versions",
          about: "How many processes run which.",
          unit: "short",
          kind: "table",
          queries: [["count by (job, version) (tollgate_build_info)", "{{job}} {{version}}"]],
        },
      ],
    },
    {
      title: "Configuration and limits",
      panels: [
        {
          title: "Configuration in force",
          about: "0: what changed last is not in force as a whole; the log says why.",
          unit: "short",
          queries: [["min by (instance) (tollgate_config_last_reload_successful)", "{{instance}}"]],
        },
        {
          title: "Pods that share limits",
          about: "As heard from Redis.",
          unit: "short",
          queries: [["max(tollgate_live_pods)", "pods"]],
        },
        {
          title: "Calls waiting for room",
          about: "In the queues of the pods.",
          unit: "short",
          queries: [["sum by (instance) (tollgate_queue_length)", "{{instance}}"]],
        },
      ],
    },
    {
      title: "KeyService",
      panels: [
        {
          title: "RPCs",
          about: "Asked of the KeyService.",
          unit: "reqps",
          queries: [[`sum by (method) (rate(tollgate_rpc_requests_total${interval}))`, "{{method}}"]],
        },
        {
          title: "RPC duration, p99",
          about: "Of those that are no streams.",
          unit: "s",
          queries: [[quantile(0.99, "tollgate_rpc_duration_seconds", "method"), "{{method}}"]],
        },
        {
          title: "Database connections",
          about: "Waiting above 0 for long: too few, or a slow database.",
          unit: "short",
          queries: [["sum by (state) (tollgate_postgres_connections)", "{{state}}"]],
        },
        {
          title: "Sidecars watching",
          about: "They hear of changes at once.",
          unit: "short",
          queries: [["sum(tollgate_watches)", "sidecars"]],
        },
        {
          title: "Alerts to deliver",
          about: "Alerts of the KeyService that could not be delivered yet.",
          unit: "short",
          queries: [["max(tollgate_alerts_waiting)", "waiting"]],
        },
      ],
    },
  ],
};

/** By the name of its file. */
export const boards: Readonly<Record<string, Board>> = { overview, providers, money, ledger, runtime };
