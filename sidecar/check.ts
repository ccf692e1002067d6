import { parseArgs } from "node:util";
import {
  type ConfigSummary,
  type DeploymentSummary,
  loadConfig,
  type RedisSummary,
  remarkText,
  summarise,
  systemClock,
} from "../src/index.ts";

const usage = "usage: tollgate check FILE [--json]\n";
const exitFine = 0;
/** EX_USAGE of sysexits.h: the command or the configuration is wrong. */
const exitWrong = 64;

const withoutRedis: Readonly<Record<NonNullable<ConfigSummary["redis"]>["unavailable"], string>> = {
  local_share: "while it is away each pod enforces its share of the limits",
  closed: "while it is away calls with limits are refused",
  open: "while it is away limits are not enforced",
};

/** What `check` writes to and reads from. */
export interface CheckIo {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * `tollgate check FILE`: prints what a configuration compiles to, without starting anything. Keys and passwords are never
 * printed.
 *
 * @returns the exit code: 0, or 64 if the configuration or the command line is wrong.
 */
export async function check(argv: readonly string[], io: CheckIo): Promise<number> {
  const asked = readArguments(argv);
  if (typeof asked === "string") {
    io.stderr.write(`tollgate: ${asked}\n${usage}`);
    return exitWrong;
  }
  const result = await loadConfig({ file: asked.file, env: io.env, nowMs: systemClock.nowMs() });
  const faults = result.ok ? [] : result.faults;
  const notices = result.ok ? result.config.notices : [];
  if (asked.json) {
    const config = result.ok ? summarise(result.config) : null;
    io.stdout.write(`${JSON.stringify({ ok: result.ok, config, notices, faults }, null, 2)}\n`);
    return result.ok ? exitFine : exitWrong;
  }
  if (!result.ok) {
    for (const fault of faults) io.stderr.write(`${remarkText(fault)}\n`);
    io.stderr.write(`\n${asked.file} cannot be used: ${plural(faults.length, "fault")}.\n`);
    return exitWrong;
  }
  io.stdout.write(summaryText(asked.file, summarise(result.config)));
  if (notices.length > 0)
    io.stdout.write(`\nNotices\n${notices.map((notice) => `  ${remarkText(notice)}\n`).join("")}`);
  return exitFine;
}

function readArguments(argv: readonly string[]): { readonly file: string; readonly json: boolean } | string {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      options: { json: { type: "boolean", default: false } },
      allowPositionals: true,
    });
    const [file, ...rest] = positionals;
    if (file === undefined || rest.length > 0) return "check takes one file";
    return { file, json: values.json };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function summaryText(file: string, config: ConfigSummary): string {
  const deploymentCount = config.models.reduce((sum, { deployments }) => sum + deployments.length, 0);
  const lines = [`${file}: ${plural(config.models.length, "model")}, ${plural(deploymentCount, "deployment")}`, ""];
  for (const { name, deployments } of config.models) {
    lines.push(name);
    for (const deployment of deployments) lines.push(...deploymentLines(deployment, config.unpricedModels));
  }
  if (config.aliases.length > 0) {
    lines.push("", "Aliases");
    for (const { name, model, hidden } of config.aliases)
      lines.push(`  ${name} -> ${model}${hidden ? " (hidden)" : ""}`);
  }
  const { redis, router } = config;
  const countersText =
    redis === null
      ? "none: counters stay in the process"
      : `${redisPlace(redis)}, password ${yes(redis.passwordPresent)}; ${withoutRedis[redis.unavailable]}`;
  lines.push(
    "",
    `Router       ${router.strategy}, ${plural(router.retries, "retry", "retries")}`,
    `Redis        ${countersText}`,
    `Cache        ${cacheText(config.answerCache)}`,
    `Database     ${config.databaseHost ?? "none"}`,
    `Master key   ${yes(config.masterKeyPresent)}`,
    `Alerts       ${config.alerting.length === 0 ? "the log only" : `the log, ${config.alerting.join(", ")}`}`,
    `Environment  ${config.environment ?? "-"}`,
    `Time zone    ${config.timeZone ?? "-"}`,
    `Digest       ${config.digest}`,
  );
  return `${lines.join("\n")}\n`;
}

/** Whom an answer is given to besides its own key. */
const sharedWith: Readonly<Record<string, string>> = {
  all: "for every key",
  team: "for a team's keys",
  key: "for one key",
};

function cacheText(cache: ConfigSummary["answerCache"]): string {
  if (cache === null) return "none: no answers are kept";
  const { redis, ttlS, namespace, isDefaultOn, sharing } = cache;
  const place = redis === null ? "in each process" : `at ${redisPlace(redis)}`;
  const named = namespace === "" ? "" : `, namespace ${namespace}`;
  return `${place}, ${ttlS} s, ${sharedWith[sharing]}${named}${isDefaultOn ? "" : ", only where a call asks for it"}`;
}

function redisPlace({ kind, nodes, db, tls }: RedisSummary): string {
  const places = `${nodes.join(", ")}${kind === "server" ? `/${db}` : ""}${tls ? " over TLS" : ""}`;
  if (kind === "cluster") return `a Cluster with ${places}`;
  return kind === "sentinels" ? `database ${db} of the master that ${places} know` : places;
}

function deploymentLines(deployment: DeploymentSummary, unpriced: ConfigSummary["unpricedModels"]): string[] {
  const { order, weight, rpm, tpm } = deployment;
  const where = deployment.host === null ? "mock" : `at ${deployment.host}, key ${yes(deployment.keyPresent)}`;
  const figures = Object.entries({ order, weight, rpm, tpm }).filter(([, figure]) => figure !== null);
  const times = `timeout ${deployment.timeoutS} s, stream ${deployment.streamTimeoutS} s, at most ${deployment.outputTokensMax} tokens out`;
  return [
    `  ${deployment.provider}/${deployment.model} ${where}`,
    `    ${[...figures.map(([name, figure]) => `${name} ${figure}`), times].join(", ")}`,
    `    ${priceText(deployment, unpriced)}`,
    `    id ${deployment.id}`,
  ];
}

function priceText(
  { model, pricePerMillion: price }: DeploymentSummary,
  unpriced: ConfigSummary["unpricedModels"],
): string {
  if (price === null) {
    if (model.includes("*")) return "each model at its own price";
    return unpriced === "flag" ? "no price: booked at $0" : "no price: callers with a budget are refused";
  }
  const { input, output, cacheRead, cacheWrite, version } = price;
  const long = price.longInput.map(
    (each) => `; over ${each.aboveTokens} tokens in: $${each.input} in, $${each.output} out`,
  );
  return `$${input} in, $${output} out, $${cacheRead} cache read, $${cacheWrite} cache write per million tokens${long.join("")} (${version})`;
}

function yes(present: boolean): string {
  return present ? "yes" : "no";
}

function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
