import type { Deployment } from "./config/config.ts";
import type { RedisCounters } from "./counters/redis.ts";
import { errorTable } from "./errors.ts";
import type { Decisions } from "./keys/decisions.ts";
import type { Journal } from "./keys/journal.ts";
import type { Leases } from "./keys/leases.ts";
import type { Shipper } from "./keys/shipper.ts";
import { usdNumber } from "./money.ts";
import type { Health } from "./routing/health.ts";
import type { Snapshots } from "./routing/snapshots.ts";
import { targetLabels } from "./telemetry/litellm-metrics.ts";
import type { Labels, Sample } from "./telemetry/metric-family.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/** The parts of a gateway that tell about themselves. */
export interface ObservedParts {
  readonly journal: Journal;
  readonly shipper: Shipper;
  readonly leases: Leases;
  readonly decisions: Decisions;
  /** How long cached keys serve while the KeyService is away, in milliseconds. */
  readonly keyStaleMs: number;
  readonly redis: RedisCounters | undefined;
  readonly snapshots: Pick<Snapshots, "current">;
  readonly health: Health;
}

/** Has the parts of a gateway tell about themselves: what they hold and how they are is read when somebody asks. */
export function observePod(metrics: Metrics, parts: ObservedParts): void {
  observeBooks(metrics, parts);
  observeDependencies(metrics, parts);
  observeDeployments(metrics, parts);
}

function observeBooks(metrics: Metrics, { journal, shipper, leases }: ObservedParts): void {
  metrics.gauge(
    "tollgate_usage_wal_pending",
    "Records the KeyService has not confirmed.",
    () => journal.stats().pending,
  );
  metrics.gauge(
    "tollgate_usage_wal_oldest_seconds",
    "How long ago the oldest unconfirmed record ended.",
    () => journal.stats().oldestAgeMs / 1000,
  );
  metrics.gauge("tollgate_usage_wal_bytes", "Size of the journal on disk.", () => journal.stats().bytes);
  metrics.counter(
    "tollgate_usage_wal_failures_total",
    "Journal writes that failed: their calls were refused.",
    () => journal.stats().failures,
  );
  metrics.counter("tollgate_usage_acked_total", "Records the KeyService has confirmed.", () => shipper.stats().booked);
  metrics.counters(
    "tollgate_usage_lost_total",
    "What will not be booked by itself; each is in the log. damaged: stretches of the journal that could not be read; rejected: records the KeyService refused for good, kept aside.",
    "cause",
    () => ({ damaged: journal.stats().damaged, rejected: shipper.stats().rejected }),
  );
  metrics.gauge("tollgate_leases", "Leases this pod holds.", () => leases.stats().leases);
  metrics.gauge("tollgate_lease_room_usd", "Money lent to this pod and free.", () => usdNumber(leases.stats().room));
  metrics.gauge("tollgate_lease_reserved_usd", "Money reserved by calls in flight.", () =>
    usdNumber(leases.stats().reserved),
  );
  metrics.gauge("tollgate_lease_waiting", "Calls that wait for the KeyService to lend.", () => leases.stats().waiting);
}

function observeDependencies(metrics: Metrics, { decisions, redis, keyStaleMs }: ObservedParts): void {
  metrics.gauge("tollgate_keyservice_connected", "Whether changes are being pushed to this pod.", () =>
    decisions.connected ? 1 : 0,
  );
  metrics.gauges("tollgate_dependency_up", "Whether what this program depends on answers.", "dep", () => ({
    keyservice: decisions.connected ? 1 : 0,
    ...(redis === undefined ? {} : { redis: redis.isUp ? 1 : 0 }),
  }));
  metrics.gauge("tollgate_policy_age_seconds", "How long ago the KeyService was heard last.", () => {
    const ageMs = decisions.heardAgoMs;
    return ageMs === undefined ? undefined : ageMs / 1000;
  });
  metrics.gauge(
    "tollgate_policy_age_limit_seconds",
    "How old that may become before cached keys stop serving (TOLLGATE_KEY_STALE_S).",
    () => keyStaleMs / 1000,
  );
}

/** As LiteLLM counts them: healthy, partly, not. */
const states = { up: 0, probing: 1, cooling: 2 } as const;

function observeDeployments(metrics: Metrics, { snapshots, health }: ObservedParts): void {
  const deployments = () => [...snapshots.current.router.groups()].flat();
  const state = (deployment: Deployment) => {
    const known = health.stateOf(deployment);
    return states[typeof known === "string" ? known : "cooling"];
  };
  const figures = (figureOf: (deployment: Deployment) => number | undefined, labelsOf: (of: Deployment) => Labels) =>
    deployments().flatMap((deployment): Sample[] => {
      const value = figureOf(deployment);
      return value === undefined ? [] : [{ labels: labelsOf(deployment), value }];
    });
  const own = ({ id, provider, modelGroup }: Deployment) => ({ deployment: id, provider, model: modelGroup });
  const litellm = ({ id, provider, model, apiBase = "" }: Deployment) =>
    targetLabels({ deploymentId: id, provider, model, apiBase });
  metrics.add(
    {
      name: "tollgate_circuit_state",
      help: "Deployments: 0 in use, 1 to be tried by one call, 2 left alone after failures.",
      type: "gauge",
      read: () => figures(state, own),
    },
    {
      name: "tollgate_cooldowns_total",
      help: "How often a deployment was left alone, by the failure (an error code).",
      type: "counter",
      read: () =>
        [...health.cooldowns()].map(({ deployment, code, count }) => ({
          labels: { ...own(deployment), code },
          value: count,
        })),
    },
    {
      name: "litellm_deployment_state",
      help: "Deployments: 0 healthy, 1 to be tried by one call, 2 left alone. LiteLLM's name for it.",
      type: "gauge",
      read: () => figures(state, litellm),
    },
    {
      name: "litellm_deployment_rpm_limit",
      help: "Requests a minute a deployment may have. LiteLLM's name for it.",
      type: "gauge",
      read: () => figures(({ rpm }) => rpm, litellm),
    },
    {
      name: "litellm_deployment_tpm_limit",
      help: "Tokens a minute a deployment may have. LiteLLM's name for it.",
      type: "gauge",
      read: () => figures(({ tpm }) => tpm, litellm),
    },
    {
      name: "litellm_deployment_cooled_down_total",
      help: "How often a deployment was left alone. LiteLLM's name for it.",
      type: "counter",
      read: () =>
        [...health.cooldowns()].map(({ deployment, code, count }) => ({
          labels: { ...litellm(deployment), exception_status: String(errorTable[code].httpStatus) },
          value: count,
        })),
    },
  );
}
