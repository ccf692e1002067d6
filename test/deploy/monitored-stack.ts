import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, stringify } from "yaml";
import { TestAuthority } from "../certificates.ts";
import { Stack } from "../e2e/stack.ts";
import { FaultProxy } from "../faults/proxy.ts";
import { Prometheus } from "../prometheus.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { Upstream } from "../upstream.ts";

/** Windows of rules and panels, so that what happens in a test fills them. */
const windowS = 30;
const scrapeMs = 500;

interface RuleFile {
  readonly groups: readonly { rules: readonly { alert?: string; expr: string; for?: string }[] }[];
}

/** An expression whose windows and offsets fit a test. Thresholds that are times are shortened too. */
export function shortened(expression: string): string {
  return expression
    .replace(/\[(?:\d+[smhd]|\$__rate_interval)\]/g, `[${windowS}s]`)
    .replace(/offset 1[hw]/g, `offset ${windowS}s`)
    .replace("wal_oldest_seconds) > 120", "wal_oldest_seconds) > 2");
}

/** The rules of deploy/prometheus for a test: short windows, and no waiting before an alert fires. */
function shortRules(name: string): RuleFile {
  const file = new URL(`../../deploy/prometheus/${name}.yaml`, import.meta.url);
  const { groups } = parse(readFileSync(file, "utf8")) as RuleFile;
  return {
    groups: groups.map((group) => ({
      ...group,
      rules: group.rules.map(({ for: _, ...rule }) => ({ ...rule, expr: shortened(rule.expr) })),
    })),
  };
}

/** Real programs under a real Prometheus with the rules of deploy/prometheus. */
export class MonitoredStack {
  readonly stack: Stack;
  readonly prometheus: Prometheus;
  readonly redis: FaultProxy;
  readonly database: FaultProxy;
  /** The names of all alerts there are. */
  readonly alertNames: readonly string[];
  /** Puts a certificate that ends at once in the place of the last sidecar's. */
  readonly expireCertificate: () => void;
  /** Those that have fired. */
  readonly fired = new Set<string>();
  readonly #upstream: Upstream;
  readonly #redisServer: RedisServer;
  readonly #directory: string;
  #calls = 0;
  #watching = true;
  readonly #watch: Promise<void>;

  private constructor(
    parts: Pick<MonitoredStack, "stack" | "prometheus" | "redis" | "database" | "alertNames" | "expireCertificate">,
    upstream: Upstream,
    redisServer: RedisServer,
    directory: string,
  ) {
    this.#upstream = upstream;
    this.stack = parts.stack;
    this.prometheus = parts.prometheus;
    this.redis = parts.redis;
    this.database = parts.database;
    this.alertNames = parts.alertNames;
    this.expireCertificate = parts.expireCertificate;
    this.#redisServer = redisServer;
    this.#directory = directory;
    this.#watch = this.#look();
  }

  static async start(env: Readonly<Record<string, string>> = {}): Promise<MonitoredStack> {
    const redisServer = await startRedis();
    const redis = await FaultProxy.start(redisServer.port);
    const cluster = new URL(process.env.TOLLGATE_TEST_POSTGRES_URL ?? "postgresql://127.0.0.1");
    const database = await FaultProxy.start(Number(cluster.port || 5432));
    const upstream = await Upstream.start();
    const directory = mkdtempSync(join(tmpdir(), "tollgate-monitoring-"));
    const authority = new TestAuthority(directory);
    const issue = (days: number) => authority.issue("port", "DNS:localhost", days);
    const certificate = issue(2);
    const stack = await Stack.start({
      sidecars: 3,
      // The last one's data port is over TLS, and nobody calls it.
      sidecarEnv: (index) =>
        index === 2 ? { TOLLGATE_TLS_CERT_FILE: certificate.certFile, TOLLGATE_TLS_KEY_FILE: certificate.keyFile } : {},
      redis: `  redis_host: 127.0.0.1\n  redis_port: ${redis.port}\n  fallbacks: [{ down: [ok] }]`,
      databasePort: database.port,
      config: settings,
      models: modelsAt(upstream.baseUrl),
      env,
    });
    const rules = ["recording", "alerts"].map((name) => {
      const file = join(directory, `${name}.yaml`);
      writeFileSync(file, stringify(shortRules(name)));
      return file;
    });
    const prometheus = await Prometheus.start({
      scrapes: {
        sidecars: { targets: stack.sidecars.map(({ adminUrl }) => new URL(adminUrl).host), everyMs: scrapeMs },
        // Its answer waits a second for the database, when that is away.
        keyservice: { targets: [new URL(stack.keyServiceUrl).host], everyMs: 4 * scrapeMs },
      },
      rules,
      intervalMs: scrapeMs,
    });
    const alertNames = shortRules("alerts").groups.flatMap((group) => group.rules.flatMap(({ alert }) => alert ?? []));
    const expireCertificate = () => void issue(0);
    return new MonitoredStack(
      { stack, prometheus, redis, database, alertNames, expireCertificate },
      upstream,
      redisServer,
      directory,
    );
  }

  /** One chat call that is like no other, so that no kept answer does for it. */
  async call(model: string, key: string, options: { sidecar?: number; fields?: object } = {}): Promise<number> {
    this.#calls += 1;
    const messages = [{ role: "user", content: `Hello ${this.#calls}` }];
    const answer = await this.stack.chat(options.sidecar ?? 0, key, { model, messages, ...options.fields });
    await answer.text().catch(() => "");
    return answer.status;
  }

  /** Waits until alerts have fired, while something is done again and again. */
  async fires(names: readonly string[], doing: () => Promise<unknown> = () => sleep(200)): Promise<void> {
    const untilMs = performance.now() + 90_000;
    const missing = () => names.filter((name) => !this.fired.has(name));
    while (missing().length > 0) {
      if (performance.now() > untilMs) throw new Error(`not fired: ${missing().join(", ")}`);
      await doing();
    }
  }

  async close(): Promise<void> {
    this.#watching = false;
    await this.#watch;
    await this.prometheus.close();
    this.redis.mode = "pass";
    this.database.mode = "pass";
    try {
      await this.stack.close();
    } finally {
      await this.#upstream.close();
      await this.redis.close();
      await this.database.close();
      await this.#redisServer.stop();
      rmSync(this.#directory, { recursive: true, force: true });
    }
  }

  async #look(): Promise<void> {
    while (this.#watching) {
      for (const { labels, state } of await this.prometheus.alerts())
        if (state === "firing") this.fired.add(labels.alertname ?? "");
      await sleep(scrapeMs);
    }
  }
}

const settings = `
litellm_settings:
  cache: true
  cache_params: { type: local, supported_call_types: [acompletion], ttl: 60 }
`;

/**
 * Besides the upstream's scripts: one that costs ten cents a token, one that nobody knows the price of, one of another provider that always
 * fails and is asked all the same, and one that never answers.
 */
const modelsAt = (apiBase: string) => `
  - model_name: dear
    litellm_params: { model: openai/dear-model, mock_response: "one two three", input_cost_per_token: 0.1, output_cost_per_token: 0.1, max_tokens: 5 }
  - model_name: nameless
    litellm_params: { model: openai/nobody-knows-this-model, mock_response: "one two three" }
  - model_name: unwell
    litellm_params: { model: hosted_vllm/html-error, api_base: ${apiBase}, api_key: none, cooldown_time: 0, input_cost_per_token: 0, output_cost_per_token: 0 }
  - model_name: hanging
    litellm_params: { model: hosted_vllm/silent, api_base: ${apiBase}, api_key: none, timeout: 120, stream_timeout: 120, input_cost_per_token: 0, output_cost_per_token: 0 }
`;
