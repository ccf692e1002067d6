import { randomUUIDv7 } from "node:crypto";
import { join } from "node:path";
import { Admission } from "./admission/admission.ts";
import { AnswerCache } from "./cache/answer-cache.ts";
import type { AnswerStore } from "./cache/answer-store.ts";
import { MemoryAnswers } from "./cache/memory-answers.ts";
import { RedisAnswers } from "./cache/redis-answers.ts";
import type { Clock, Random } from "./clock.ts";
import { behindWildcard } from "./config/behind-wildcard.ts";
import type { Config, Fault } from "./config/config.ts";
import type { ConfigReading } from "./config/load.ts";
import { isSameRedis } from "./config/redis-address.ts";
import { gatewayRestartSettings } from "./config/restart-settings.ts";
import { Advances } from "./counters/advances.ts";
import { Board } from "./counters/board.ts";
import { MemoryBoard } from "./counters/board-memory.ts";
import { type BoardStore, boardHalfLifeMs } from "./counters/board-store.ts";
import type { Counters } from "./counters/counters.ts";
import { createMemoryCounters } from "./counters/memory.ts";
import { createRedisCounters, type RedisCounters } from "./counters/redis.ts";
import { StandbyCounters } from "./counters/standby.ts";
import { Explainer } from "./explainer.ts";
import { Gateway } from "./gateway.ts";
import type { SpendRecord } from "./keys/authority.ts";
import { Decisions, decisionDefaults } from "./keys/decisions.ts";
import { Journal, journalDefaults } from "./keys/journal.ts";
import { Leases } from "./keys/leases.ts";
import { ModelSync } from "./keys/model-sync.ts";
import { Overdraft } from "./keys/overdraft.ts";
import { RemoteAuthority, type RemoteAuthorityParts } from "./keys/remote.ts";
import { Shipper } from "./keys/shipper.ts";
import { SpentBudgets } from "./keys/spent-budgets.ts";
import { Closers } from "./lifecycle.ts";
import { checkMetricsReader } from "./metrics-reader.ts";
import { usdNumber } from "./money.ts";
import { observedConfig } from "./observed-config.ts";
import { observePod } from "./pod-metrics.ts";
import { ProviderHttp } from "./providers/http.ts";
import { ProviderSet } from "./providers/provider-set.ts";
import { ResponseIds } from "./response-ids.ts";
import { Health } from "./routing/health.ts";
import { HealthChecks } from "./routing/health-checks.ts";
import { HealthReport } from "./routing/health-report.ts";
import { Router } from "./routing/router.ts";
import { Snapshots } from "./routing/snapshots.ts";
import { TokenCounter } from "./routing/token-counter.ts";
import { Secret } from "./secret.ts";
import { StoredResponses } from "./stored-responses.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";

/** What a gateway is made for. */
export interface GatewayOptions {
  readonly config: Config;
  /** What `config` was compiled from. */
  readonly reading: ConfigReading;
  readonly keyService: Pick<RemoteAuthorityParts, "url" | "token" | "tls">;
  /** The same over restarts of the pod's container. */
  readonly podId: string;
  /** How long Redis may take to decide a limit. */
  readonly redisTimeoutMs: number;
  readonly dataDir: string;
  readonly journalFsync: "none" | "interval" | "always";
  readonly keyStaleMs: number;
  readonly telemetry: Telemetry;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly random: Random;
}

/** A gateway, and what its process needs to know of it. */
export interface RunningGateway {
  readonly gateway: Gateway;
  readonly explainer: Explainer;
  /** Responses that providers keep. */
  readonly storedResponses: StoredResponses;
  /** What is known of the deployments. */
  readonly healthReport: HealthReport;
  /** Undefined: no answers are kept. */
  readonly answers: AnswerStore | undefined;
  /** Whether the KeyService has been heard since the start, and asked for its models: before that no call can be decided. */
  readonly ready: () => boolean;
  /**
   * Puts a file that was read anew into force, with the database's models. Calls under way keep what they began with; a file
   * with a fault, or the faults of one that could not be read, change nothing, and are logged. Models, aliases and the router's settings
   * change; the log says which changed settings want a restart.
   */
  reload(read: ConfigReading | readonly Fault[]): Promise<void>;
  /** Throws GatewayError unless the holder of a key may read metrics. */
  readonly checkMetricsReader: (key: string) => Promise<void>;
  /** Every part and its state in a word, for people. */
  readonly checks: () => Readonly<Record<string, string>>;
  /** Books what is recorded, returns all money, closes everything. Calls in flight should be over. */
  close(graceMs: number): Promise<void>;
}

/** Puts a gateway together: the only place where its parts meet. */
export function createGateway(options: GatewayOptions): RunningGateway {
  const { config, clock, random, telemetry, metrics } = options;
  const newId = randomUUIDv7;
  // First, because it fails when the disk does: nothing else is open yet.
  const journal = new Journal({
    ...journalDefaults,
    directory: join(options.dataDir, "journal"),
    fsync: options.journalFsync,
    ...{ clock, telemetry, newId },
  });
  const { counters, board, redis } = createCounters(options);
  const authority = new RemoteAuthority({ ...options.keyService, podId: options.podId, clock, random });
  const leases = new Leases({ authority, book: journal, clock, telemetry, newId });
  const alone = config.keyServiceUnavailable;
  const overdraft = alone.mode === "open" ? new Overdraft(alone.max) : undefined;
  const onBooked = (records: readonly SpendRecord[]) => {
    leases.booked(records);
    overdraft?.booked(records);
  };
  const shipper = new Shipper({ journal, authority, clock, random, telemetry, onBooked });
  const health = new Health({ clock, board });
  const spent = new SpentBudgets({ clock });
  const tokenCounter = new TokenCounter({ clock });
  const snapshots = new Snapshots({
    config,
    routerOf: (current) =>
      new Router({
        ...{ config: current, random },
        facts: {
          loadOf: (deployment) => health.loadOf(deployment),
          stateOf: (deployment) => health.stateOf(deployment),
          spentOf: (deployment) => spent.of(deployment),
        },
        behindWildcard: (wildcard, model) => behindWildcard(wildcard, model, clock.nowMs()),
      }),
  });
  const cache = createAnswerCache(options);
  const apply = (changed: Config) => {
    snapshots.reload(changed);
    const [counting, keeping] = [changed.redis, changed.answerCache?.redis];
    if (counting !== undefined && isSameRedis(config.redis, counting)) redis?.renew(counting);
    if (keeping !== undefined && isSameRedis(config.answerCache?.redis, keeping)) cache?.store.renew?.(keeping);
  };
  const live = observedConfig({
    ...{ reading: options.reading, first: config, untilRestart: gatewayRestartSettings, apply, clock, metrics },
    log: (level, message, facts) => telemetry.log(level, message, facts),
  });
  metrics.gauge("tollgate_stored_models", "Models of the database in force.", () => live.storedCount);
  const models = new ModelSync({
    ...{ clock, random, telemetry },
    ask: () => authority.models(),
    apply: (stored) => live.store(stored),
  });
  const decisions = new Decisions({
    ...decisionDefaults,
    staleMs: options.keyStaleMs,
    masterKey: config.masterKey,
    onModels: (version) => models.heard(version),
    onRecall: (budgetId) => leases.recall(budgetId),
    ...{ authority, clock, random, telemetry },
  });
  const http = new ProviderHttp({ clock });
  const providers = new ProviderSet({ http, clock });
  const unpriced = new Map<string, number>();
  metrics.counters(
    "tollgate_unpriced_model_requests_total",
    "Calls to models nobody knows the price of: refused to keys with a budget, or booked at $0.",
    "model",
    () => Object.fromEntries(unpriced),
  );
  const admission = new Admission({
    ...{ decisions, leases, overdraft, spent, journal, counters, clock },
    isClosedAlone: alone.mode === "closed",
    unpricedModels: config.unpricedModels,
    ...{ countedTokens: config.countedTokens, tagBudgets: config.tagBudgets },
    countUnpriced: (model) => unpriced.set(model, (unpriced.get(model) ?? 0) + 1),
  });
  const checks =
    config.healthChecks &&
    new HealthChecks({
      ...{ rules: config.healthChecks, snapshots, health, counters, telemetry, clock, random },
      providerOf: (deployment) => providers.of(deployment),
    });
  const responseIds = new ResponseIds({ secret: options.keyService.token ?? new Secret(newId()) });
  const gateway = new Gateway({
    ...{ admission, snapshots, health, board, tokenCounter },
    providerOf: (deployment) => providers.of(deployment),
    ...{ responseIds, newCallId: newId },
    ...{ cache, telemetry, clock, random },
  });
  leases.adopt(journal.formerLeases);
  shipper.start();
  decisions.start();
  checks?.start();
  observePod(metrics, {
    journal,
    shipper,
    leases,
    decisions,
    redis,
    snapshots,
    health,
    keyStaleMs: options.keyStaleMs,
  });
  metrics.gauge("tollgate_queue_length", "Calls that wait for a deployment with room.", () => gateway.waiting);
  if (overdraft !== undefined) {
    metrics.gauge("tollgate_overdraft_used_usd", "Spent or held without a lease and not in the books yet.", () =>
      usdNumber(overdraft.used),
    );
  }
  return {
    gateway,
    storedResponses: new StoredResponses({
      ...{ admission, snapshots, responseIds },
      providerOf: (deployment) => providers.of(deployment),
    }),
    explainer: new Explainer({ admission, snapshots, tokenCounter, clock, random }),
    healthReport: new HealthReport({ snapshots, health, checks }),
    answers: cache?.store,
    ready: () => decisions.ready && models.isSettled,
    reload: (read) => live.reload(read),
    checkMetricsReader: (key) => checkMetricsReader(admission, key),
    checks: () => ({
      keyservice: decisions.connected ? "connected" : "away",
      journal: `${journal.stats().pending} records to book`,
      counters: redis === undefined ? "in this process" : `redis ${redis.isUp ? "connected" : "away"}`,
      config: snapshots.current.digest.slice(0, 12),
      models: `${live.storedCount} of the database`,
    }),
    close: (graceMs) =>
      close(
        {
          ...{ decisions, models, shipper, leases, journal, counters, board, authority, http, tokenCounter, telemetry },
          ...{ answers: cache?.store, checks },
        },
        graceMs,
      ),
  };
}

/** Limits are counted in Redis if there is one, with something to fall back on while it is away; else in this process. */
function createCounters(options: GatewayOptions): { counters: Counters; board: Board; redis?: RedisCounters } {
  const { config, redisTimeoutMs: timeoutMs, metrics, clock, podId } = options;
  const halfLifeMs = boardHalfLifeMs;
  const boardAt = (store: BoardStore) => new Board({ store, clock, halfLifeMs });
  if (config.redis === undefined) {
    const board = boardAt(new MemoryBoard({ clock, halfLifeMs }).storeOf(podId));
    return { counters: createMemoryCounters({ clock }), board };
  }
  const redis = createRedisCounters({ ...options, address: config.redis, timeoutMs });
  const livePods = () => redis.countLivePods();
  // In a Cluster each group of claims has a clock and an answer of its own: there every call asks.
  const store = config.redis.kind === "cluster" ? redis : new Advances({ store: redis, clock });
  const counters = new StandbyCounters({ store, livePods, mode: config.redisUnavailable, clock });
  metrics.gauge(
    "tollgate_live_pods",
    "Pods that share the limits, as last heard from Redis.",
    () => redis.livePods ?? 0,
  );
  metrics.counter(
    "tollgate_limits_degraded_total",
    "Calls whose limits this pod decided without Redis: by its share of them, or open.",
    () => counters.decidedAlone,
  );
  metrics.counter(
    "tollgate_redis_failures_total",
    "Requests to Redis about limits and deployments that failed or were not answered in time. While it is away none are made.",
    () => redis.failures,
  );
  return { counters, board: boardAt(redis.boardStore(halfLifeMs)), redis };
}

/** All that this pod keeps in its memory. */
const keptBytesMax = 64 * 1_048_576;

/** Keeps answers, if the file says so. */
function createAnswerCache(options: GatewayOptions): AnswerCache | undefined {
  const { clock, metrics, redisTimeoutMs: timeoutMs } = options;
  const config = options.config.answerCache;
  if (config === undefined) return undefined;
  const memory = new MemoryAnswers({ clock, bytesMax: keptBytesMax });
  const store =
    config.redis === undefined ? memory : new RedisAnswers({ ...options, address: config.redis, timeoutMs });
  const cache = new AnswerCache({ store, config, clock });
  metrics.counter(
    "tollgate_cache_hits_total",
    "Calls answered with an answer that was given before.",
    () => cache.hits,
  );
  metrics.counter("tollgate_cache_misses_total", "Calls that no kept answer would do for.", () => cache.misses);
  metrics.gauge("tollgate_cache_bytes", "Answers kept in this pod's memory.", () => memory.bytes);
  return cache;
}

interface Parts {
  readonly decisions: Decisions;
  readonly models: ModelSync;
  readonly shipper: Shipper;
  readonly leases: Leases;
  readonly journal: Journal;
  readonly counters: Counters;
  readonly board: Board;
  readonly authority: RemoteAuthority;
  readonly http: ProviderHttp;
  readonly tokenCounter: TokenCounter;
  readonly answers: AnswerStore | undefined;
  readonly checks: HealthChecks | undefined;
  readonly telemetry: Telemetry;
}

/** Last in, first out: records are booked before the leases they were paid from go back. */
async function close(parts: Parts, graceMs: number): Promise<void> {
  const closers = new Closers();
  closers.add("models", () => parts.models.close());
  closers.add("token counter", () => parts.tokenCounter.close());
  closers.add("authority", () => parts.authority.close());
  closers.add("journal", () => parts.journal.close());
  closers.add("shipper", () => parts.shipper.close());
  closers.add("leases", () => parts.leases.close());
  closers.add("settlements", async () => void (await parts.shipper.flush(graceMs)));
  closers.add("decisions", () => parts.decisions.close());
  closers.add("counters", () => parts.counters.close());
  closers.add("board", () => parts.board.close());
  closers.add("answers", () => parts.answers?.close());
  closers.add("health checks", () => parts.checks?.close());
  closers.add("providers", () => parts.http.close());
  await closers.close((name, error) => parts.telemetry.log("warn", "A part failed to close.", { part: name, error }));
}
