import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { buildDashboard } from "../../deploy/grafana/board.ts";
import { boards } from "../../deploy/grafana/boards.ts";

const directory = new URL("../../deploy/grafana/dashboards/", import.meta.url);

test("the dashboards in deploy/grafana are what `npm run generate:dashboards` makes", () => {
  assert.deepEqual(
    readdirSync(directory).sort(),
    Object.keys(boards)
      .map((name) => `${name}.json`)
      .sort(),
  );
  for (const [name, board] of Object.entries(boards)) {
    const kept = readFileSync(new URL(`${name}.json`, directory), "utf8");
    assert.equal(kept, `${JSON.stringify(buildDashboard(board), null, 2)}\n`, `${name}.json is old`);
  }
});

test("a dashboard is found again under its uid, and every panel says what it shows", () => {
  const all = Object.values(boards);
  assert.equal(new Set(all.map(({ uid }) => uid)).size, all.length);
  for (const panel of all.flatMap(({ rows }) => rows.flatMap(({ panels }) => panels))) {
    assert.ok(panel.about.length > 0, panel.title);
    assert.ok(panel.queries.length > 0, panel.title);
  }
});

test("the panels of LiteLLM's guide are there", () => {
  const titles = Object.values(boards).flatMap(({ rows }) =>
    rows.flatMap(({ panels }) => panels.map(({ title }) => title)),
  );
  for (const title of ["Success rate", "p95 by model", "Hourly cost by team", "Fallback rate"])
    assert.ok(titles.includes(title), title);
});
