import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadConfig } from "../../src/config/load.ts";
import { remarkText } from "../../src/config/remarks.ts";
import { expectedCases } from "./expected-cases.ts";

const folder = join(import.meta.dirname, "cases");
const nowMs = Date.parse("2026-11-23T00:00:00Z");

test("every file of cases has an expectation", () => {
  const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
  assert.deepEqual(files.sort(), Object.keys(expectedCases).sort());
});

for (const [name, expected] of Object.entries(expectedCases)) {
  test(`${name} says exactly what is wrong with it, and where`, async () => {
    const result = await loadConfig({ file: join(folder, name), env: variablesOf(name), nowMs });
    const remarks = result.ok ? result.config.notices : result.faults;
    const texts = remarks.map((remark) => remarkText(remark).replaceAll(`${folder}/`, ""));
    assert.deepEqual({ ok: result.ok, remarks: texts }, expected);
    assert.doesNotMatch(JSON.stringify(result.ok ? result.config.notices : result.faults), /this-must-not-show/);
  });
}

/** A case may name variables of its own: `# env NAME=value`. */
function variablesOf(name: string): Record<string, string> {
  const lines = readFileSync(join(folder, name), "utf8").matchAll(/^# env (\w+)=(.*)$/gm);
  return Object.fromEntries([...lines].map(([, key = "", value = ""]) => [key, value]));
}
