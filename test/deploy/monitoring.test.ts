/** What a real Prometheus makes of real programs under traffic. `npm run test:monitoring` breaks things too, for the other alerts. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Collector } from "../collector.ts";
import { runProgram, type Series } from "../prometheus.ts";
import { MonitoredStack, shortened } from "./monitored-stack.ts";

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

/** Every query of every dashboard, as committed. */
function dashboardQueries(): { readonly panel: string; readonly expression: string }[] {
  const directory = new URL("../../deploy/grafana/dashboards/", import.meta.url);
  return readdirSync(directory).flatMap((file) => {
    const { title, panels } = JSON.parse(readFileSync(new URL(file, directory), "utf8")) as {
      title: string;
      panels: readonly Panel[];
    };
    return panels.flatMap((panel) =>
      (panel.targets ?? []).map(({ expr }) => ({ panel: `${title}: ${panel.title}`, expression: shortened(expr) })),
    );
  });
}

describe("under traffic", () => {
  let collector: Collector;
  let monitored: MonitoredStack;
  let key: string;
  let rich: string;
  before(async () => {
    collector = await Collector.start();
    monitored = await MonitoredStack.start({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url });
    const { stack } = monitored;
    key = await stack.generateKey({ key_alias: "app" });
    await stack.admin("POST", "/team/new", {
      team_id: "team-1",
      team_alias: "red",
      max_budget: 20,
      budget_duration: "30d",
    });
    rich = await stack.generateKey({ key_alias: "spender", team_id: "team-1", max_budget: 100 });
  });
  after(async () => {
    await monitored?.close();
    await collector?.close();
  });

  /** A little of everything that can become of a call. */
  async function traffic(): Promise<void> {
    const { stack } = monitored;
    const call = monitored.call.bind(monitored);
    await Promise.all([
      call("ok", key),
      call("ok", key, { sidecar: 1, fields: { stream: true } }),
      call("down", key),
      call("html-error", key),
      call("rate-limited", key),
      call("nameless", key),
      call("dear", rich),
      call("no-such-model", key),
      stack.chat(0, key, { fields: "kept" }).then((answer) => answer.text()),
    ]);
  }

  test("every query of every dashboard has data", { timeout: 120_000 }, async () => {
    const { stack, prometheus } = monitored;
    const poor = await stack.generateKey({ key_alias: "poor", max_budget: 0.000_000_1 });
    assert.equal(await monitored.call("ok", poor), 429);
    let missing = dashboardQueries();
    for (let tries = 0; missing.length > 0 && tries < 60; tries++) {
      await traffic();
      await monitored.call("dear", poor);
      const answers = await Promise.all(missing.map(({ expression }) => prometheus.query(expression)));
      missing = missing.filter((_, index) => !hasData(answers[index] ?? []));
      await sleep(200);
    }
    assert.deepEqual(missing, []);
  });

  test("Prometheus's own check finds nothing wrong with the metrics", async () => {
    const { stack } = monitored;
    for (const url of [stack.sidecars[0]?.adminUrl, stack.sidecars.at(-1)?.adminUrl, stack.keyServiceUrl]) {
      const input = await (await fetch(`${url}/metrics`)).text();
      const own = input.replace(/^(# (HELP|TYPE) )?litellm_.*\n/gm, "");
      const { status, output } = runProgram("promtool", ["check", "metrics"], { input: own });
      assert.equal(status, 0, output);
      // LiteLLM's names are what they are, but they can be read.
      assert.doesNotMatch(runProgram("promtool", ["check", "metrics"], { input }).output, /^(?!litellm_).+/m);
    }
  });

  test("the README's table of metrics is what the programs tell, name by name", async () => {
    const { stack } = monitored;
    const told = new Map<string, string>();
    // The last sidecar has certificates.
    for (const url of [stack.sidecars.at(-1)?.adminUrl, stack.keyServiceUrl]) {
      const text = await (await fetch(`${url}/metrics`)).text();
      for (const [, name = "", help = ""] of text.matchAll(/^# HELP (tollgate_\w+) (.*)$/gm)) told.set(name, help);
    }
    const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
    const rows = new Map(
      [...readme.matchAll(/^\| `(tollgate_\w+)(?:\{[^`]*\})?` \| (.*) \|$/gm)].map(([, name, help]) => [name, help]),
    );
    // It is there only with a setting.
    rows.delete("tollgate_overdraft_used_usd");
    assert.deepEqual([...rows].sort(), [...told].sort());
  });

  test("a slow call leads from its bucket to its trace", async () => {
    const { prometheus } = monitored;
    const exemplars = await prometheus.exemplars("tollgate_request_duration_seconds_bucket");
    assert.match(exemplars[0]?.labels.trace_id ?? "", /^[0-9a-f]{32}$/);
  });

  test("the names of LiteLLM's guide answer with the labels it has", async () => {
    const { prometheus } = monitored;
    for (const expression of [
      'sum(litellm_requests_total{model="ok", status_code="200", fallback="false"})',
      'sum(litellm_requests_total{model="down", status_code="200", fallback="true"})',
      "histogram_quantile(0.95, sum by (le, model) (litellm_request_duration_seconds_bucket))",
      'sum by (type) (litellm_tokens_total{model="ok"})',
      'sum by (team) (litellm_spend_total{team="team-1", model="dear"})',
      'sum by (api_key_alias) (litellm_spend_metric_total{api_key_alias="spender"})',
      'litellm_team_max_budget_metric{team="team-1", team_alias="red"} == 20',
      'litellm_remaining_api_key_budget_metric{api_key_alias="spender"} < 100',
      'litellm_deployment_state{litellm_model_name="ok", api_provider="openai"} == 0',
      "litellm_total_users",
    ]) {
      assert.ok(hasData(await prometheus.query(expression)), expression);
    }
  });

  test("what the metrics say was spent is what the ledger says", async () => {
    const { stack, prometheus } = monitored;
    await sleep(2_000);
    const [told] = await prometheus.query('sum(tollgate_cost_usd_total{team="team-1"})');
    const { spent } = await stack.spent(rich);
    assert.ok(Math.abs((told?.value ?? 0) - Number(spent) / 1e9) < 1e-6, `${told?.value} and ${spent}`);
  });

  test("alerts about calls, providers and money fire, and those about what is well do not", {
    timeout: 150_000,
  }, async () => {
    const { stack } = monitored;
    await stack.admin("POST", "/team/new", { team_id: "team-2", max_budget: 1, budget_duration: "30d" });
    const limited = await stack.generateKey({ key_alias: "limited", rpm_limit: 1 });
    for (const [alias, share] of [
      ["nearly", 0.98],
      ["mostly", 0.85],
    ] as const) {
      const spender = await stack.generateKey({ key_alias: alias, max_budget: 100 });
      assert.equal(await monitored.call("dear", spender), 200);
      await stack.booked(spender, 1);
      const { spent } = await stack.spent(spender);
      await stack.admin("POST", "/key/update", { key: spender, max_budget: Number(spent) / 1e9 / share });
    }
    await monitored.fires(
      [
        ...["TollgateAvailabilityBurnFast", "TollgateAvailabilityBurnSlow", "TollgateAvailabilityBurnLong"],
        ...["TollgateModelDown", "TollgateProviderDown", "TollgateProviderRateLimited", "TollgateClientsRateLimited"],
        ...["TollgateFallbackRateHigh", "TollgateBudgetWarning", "TollgateBudgetCritical", "TollgateUnpricedModel"],
      ],
      () =>
        Promise.all(
          ["html-error", "unwell", "rate-limited", "down", "nameless"]
            .map((model) => monitored.call(model, key))
            .concat(monitored.call("ok", limited)),
        ),
    );
    for (const alert of ["TollgateKeyServiceDown", "TollgateRedisDown", "TollgatePostgresDown", "TollgateUsageLost"])
      assert.ok(!monitored.fired.has(alert), alert);
  });
});

function hasData(answer: readonly Series[]): boolean {
  return answer.some(({ value }) => !Number.isNaN(value));
}
