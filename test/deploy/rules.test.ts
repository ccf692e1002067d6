import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { runProgram } from "../prometheus.ts";
import { alertCases } from "./alert-cases.ts";

const path = (file: string) => fileURLToPath(new URL(`../../deploy/${file}`, import.meta.url));
const rules = [path("prometheus/recording.yaml"), path("prometheus/alerts.yaml")];
const alertmanager = path("alertmanager/alertmanager.yaml");

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

function rulesOf(file: string): readonly Rule[] {
  const { groups } = parse(readFileSync(file, "utf8")) as { groups: readonly { readonly rules: readonly Rule[] }[] };
  return groups.flatMap((group) => group.rules);
}

const recordings = rulesOf(path("prometheus/recording.yaml"));
const alerts = rulesOf(path("prometheus/alerts.yaml")).map((rule) => ({ ...rule, alert: rule.alert ?? "" }));

const directory = mkdtempSync(join(tmpdir(), "tollgate-rules-"));
after(() => rmSync(directory, { recursive: true, force: true }));

function testsOf(alert: string) {
  const { after: eval_time, fires, silent } = alertCases[alert] ?? assert.fail(`${alert} has no case`);
  return [fires, silent].map((figures) => ({
    name: `${alert} ${figures === fires ? "fires" : "is silent"}`,
    interval: "1m",
    input_series: Object.entries(figures).map(([series, values]) => ({ series, values })),
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertname="${alert}", alertstate="firing"}) or vector(0)`,
        eval_time,
        exp_samples: [{ labels: "{}", value: figures === fires ? 1 : 0 }],
      },
    ],
  }));
}

describe("the rules", () => {
  test("are ones that Prometheus takes", () => {
    const { status, output } = runProgram("promtool", ["check", "rules", ...rules]);
    assert.equal(status, 0, output);
  });

  test("have a case for each alert, and no case for another", () => {
    assert.deepEqual(
      Object.keys(alertCases),
      alerts.map(({ alert }) => alert),
    );
  });

  test("fire when they should, and stay silent near by", () => {
    const files = alerts.map((rule) => {
      const { alert, expr } = rule;
      // Only what the alert is made of: all rules at each of a week's minutes would take minutes.
      const needed = recordings.filter(({ record = "" }) => expr.includes(record));
      const ruleFile = join(directory, `${alert}.rules.yaml`);
      writeFileSync(ruleFile, JSON.stringify({ groups: [{ name: alert, rules: [...needed, rule] }] }));
      const file = join(directory, `${alert}.tests.yaml`);
      writeFileSync(file, JSON.stringify({ rule_files: [ruleFile], evaluation_interval: "1m", tests: testsOf(alert) }));
      return file;
    });
    const { status, output } = runProgram("promtool", ["test", "rules", ...files]);
    assert.equal(status, 0, output);
  });

  test("lead to a chapter of the runbook each, and tell whose they are", () => {
    const runbook = readFileSync(path("RUNBOOK.md"), "utf8");
    const chapters = new Map(
      [...runbook.matchAll(/^## (\S+)$([\s\S]*?)(?=^## |(?![\s\S]))/gm)].map(([, name, text]) => [
        name,
        text?.trim() ?? "",
      ]),
    );
    assert.deepEqual([...chapters.keys()].sort(), alerts.map(({ alert }) => alert).sort());
    for (const { alert, annotations, labels } of alerts) {
      assert.equal(annotations.runbook_url, `deploy/RUNBOOK.md#${alert.toLowerCase()}`);
      assert.ok((chapters.get(alert) ?? "").length > 80, `the chapter ${alert} says next to nothing`);
      assert.match(labels.severity ?? "", /^(page|ticket|info)$/);
      assert.match(labels.owner ?? "", /^(platform|finance)$/);
    }
  });
});

describe("Alertmanager's configuration", () => {
  test("is one that Alertmanager takes", () => {
    const { status, output } = runProgram("amtool", ["check-config", alertmanager]);
    assert.equal(status, 0, output);
  });

  test("sends pages to PagerDuty and Slack, money to finance, and the rest to the platform", () => {
    for (const { alert, labels } of alerts) {
      const { severity, owner } = labels;
      const expected = [
        ...(severity === "page" ? ["pagerduty"] : []),
        owner === "finance" ? "slack-finance" : "slack-platform",
      ].join(",");
      const { status, output } = runProgram("amtool", [
        ...["config", "routes", "test", `--config.file=${alertmanager}`, `--verify.receivers=${expected}`],
        ...[`alertname=${alert}`, `severity=${severity}`, `owner=${owner}`],
      ]);
      assert.equal(status, 0, `${alert}: ${output}`);
    }
  });
});
