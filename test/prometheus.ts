import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interruptWhenOrphaned } from "../sidecar/last-will.ts";
import { fetchPackages, unpackedPackages } from "./debian-packages.ts";
import { freePort } from "./free-port.ts";

/** Programs of Prometheus's and Alertmanager's Debian packages. */
type Program = "prometheus" | "promtool" | "amtool" | "prometheus-alertmanager";

const hint =
  "The tests need Prometheus and Alertmanager: install `prometheus` and `prometheus-alertmanager` (Debian, Ubuntu), so that prometheus, promtool and amtool are on PATH.";

/** Where a program is; fetched if it is nowhere. */
function programPath(program: Program): string {
  const unpacked = join(unpackedPackages("prometheus").directory, "usr/bin", program);
  const found = () => [program, unpacked].find((path) => spawnSync(path, ["--version"]).status === 0);
  const path = found();
  if (path !== undefined) return path;
  fetchPackages("prometheus", ["prometheus", "prometheus-alertmanager"], hint);
  return found() ?? unpacked;
}

/** Runs one of the programs to its end. */
export function runProgram(
  program: Program,
  args: readonly string[],
  options: { readonly input?: string; readonly cwd?: string } = {},
): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr, error } = spawnSync(programPath(program), args, { ...options, encoding: "utf8" });
  return { status, output: `${error?.message ?? ""}${stdout}${stderr}` };
}

/** One series of an answer. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A Prometheus that scrapes what it is told to. */
export class Prometheus {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #directory: string;

  private constructor(url: string, child: ChildProcess, directory: string) {
    this.url = url;
    this.#child = child;
    this.#directory = directory;
  }

  /**
   * @param scrapes addresses (`host:port`) by job, and how often they are asked, in milliseconds: an answer may take as long.
   * @param rules files with rules.
   */
  static async start(parts: {
    readonly scrapes: Readonly<Record<string, { readonly targets: readonly string[]; readonly everyMs: number }>>;
    readonly rules: readonly string[];
    /** How often rules are worked out, in milliseconds. */
    readonly intervalMs: number;
  }): Promise<Prometheus> {
    const directory = mkdtempSync(join(tmpdir(), "tollgate-prometheus-"));
    const interval = `${parts.intervalMs}ms`;
    const config = {
      global: { evaluation_interval: interval },
      rule_files: parts.rules,
      scrape_configs: Object.entries(parts.scrapes).map(([job_name, { targets, everyMs }]) => ({
        ...{ job_name, scrape_interval: `${everyMs}ms`, scrape_timeout: `${everyMs}ms` },
        static_configs: [{ targets }],
      })),
    };
    const file = join(directory, "prometheus.yaml");
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(config));
    const port = await freePort();
    const child = spawn(
      programPath("prometheus"),
      [
        `--config.file=${file}`,
        `--storage.tsdb.path=${join(directory, "data")}`,
        `--web.listen-address=127.0.0.1:${port}`,
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
      ],
      { stdio: ["ignore", "ignore", "pipe"], detached: true },
    );
    let said = "";
    child.stderr?.on("data", (text) => {
      said += String(text);
    });
    if (child.pid !== undefined) child.once("exit", interruptWhenOrphaned(child.pid));
    const prometheus = new Prometheus(`http://127.0.0.1:${port}`, child, directory);
    for (let tries = 0; tries < 300 && child.exitCode === null; tries++) {
      const answer = await fetch(`${prometheus.url}/-/ready`).catch(() => undefined);
      if (answer?.ok) return prometheus;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await prometheus.close();
    throw new Error(`Prometheus did not start:\n${said}`);
  }

  /** What an expression comes to now. @throws Error with Prometheus's own words if it is none. */
  async query(expression: string): Promise<readonly Series[]> {
    const { result } = await this.#ask<{ result: readonly { metric: Series["metric"]; value: [number, string] }[] }>(
      `/api/v1/query?${new URLSearchParams({ query: expression })}`,
    );
    return result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  /** What alerting rules say now, by their names. */
  async alerts(): Promise<readonly { readonly labels: Readonly<Record<string, string>>; readonly state: string }[]> {
    return (await this.#ask<{ alerts: readonly { labels: Record<string, string>; state: string }[] }>("/api/v1/alerts"))
      .alerts;
  }

  /** Exemplars of the last minutes. */
  async exemplars(expression: string): Promise<readonly { readonly labels: Readonly<Record<string, string>> }[]> {
    const nowS = Date.now() / 1000;
    const range = new URLSearchParams({ query: expression, start: String(nowS - 600), end: String(nowS + 5) });
    const found = await this.#ask<readonly { exemplars: readonly { labels: Record<string, string> }[] }[]>(
      `/api/v1/query_exemplars?${range}`,
    );
    return found.flatMap(({ exemplars }) => exemplars);
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, "exit");
      this.#child.kill("SIGTERM");
      await ended;
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #ask<Data>(path: string): Promise<Data> {
    const answer = (await (await fetch(this.url + path)).json()) as { status: string; error?: string; data: Data };
    if (answer.status !== "success") throw new Error(answer.error);
    return answer.data;
  }
}
