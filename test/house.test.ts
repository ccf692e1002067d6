import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { findFaults } from "./house-rules.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

test("the house stands: floors, circles, names, sizes, banned calls, no dead file", () => {
  const paths = globSync("{src,sidecar,test}/**/*.{ts,mjs}", { cwd: root, exclude: ["src/gen/**", "test/clients/**"] });
  assert.ok(paths.includes("src/gateway.ts"));
  const faults = findFaults(new Map(paths.map((path) => [path, readFileSync(join(root, path), "utf8")])));
  assert.equal(faults.length, 0, `\n${faults.join("\n")}\n`);
});

test("a sound small house has no fault", () => {
  assert.equal(faultsOf({}), "");
});

test("an import that climbs, or goes across a floor, is a fault; one of config's types is not", () => {
  assert.match(
    faultsOf({ "src/errors.ts": 'import { load } from "./config/load.ts";' }),
    /^src\/errors.ts:1: ground imports config.*down only/,
  );
  assert.match(
    faultsOf({ "src/config/load.ts": '\nimport { take } from "../counters/memory.ts";' }),
    /load.ts:2: .*one floor/,
  );
  assert.match(faultsOf({ "src/counters/memory.ts": 'import { load } from "../config/load.ts";' }), /one floor/);
  assert.doesNotMatch(
    faultsOf({ "src/counters/memory.ts": 'import type { Config } from "../config/load.ts";' }),
    /one floor/,
  );
  assert.match(
    faultsOf({ "src/cellar/wine.ts": 'import "../errors.ts";' }),
    /cellar imports ground.*give the room a floor/,
  );
});

test("the tower and the house meet in proto/ only", () => {
  assert.match(
    faultsOf({ "src/config/load.ts": 'import { serve } from "../keyservice/server.ts";' }),
    /only sidecar\/ imports keyservice/,
  );
  assert.match(
    faultsOf({ "src/keyservice/server.ts": 'import { x } from "../counters/memory.ts";' }),
    /meet the pod in proto/,
  );
  assert.match(
    faultsOf({ "sidecar/main.ts": 'import { x } from "../src/counters/memory.ts";' }),
    /export what it needs from src\/index.ts/,
  );
});

test("circles, barrels, bad names, long files and dead files are faults", () => {
  const there = 'import { a } from "./errors.ts";';
  assert.match(
    faultsOf({ "src/errors.ts": 'import { b } from "./money.ts";', "src/money.ts": there }),
    /a circle: src\/errors.ts -> src\/money.ts -> src\/errors.ts/,
  );
  assert.match(
    faultsOf({ "src/config/load.ts": 'export * from "../errors.ts";' }),
    /only src\/index.ts and src\/client.ts re-export/,
  );
  assert.match(faultsOf({ "src/config/loadFile.ts": "" }), /loadFile.ts:1: not in kebab-case/);
  assert.match(faultsOf({ "src/config/string-utils.ts": "" }), /says nothing/);
  assert.match(faultsOf({ "src/errors.ts": "\n\n".repeat(201).concat("export {};") }), /403 lines/);
  assert.match(
    faultsOf({ "src/money.ts": "", "test/money.test.ts": 'import "../src/money.ts";' }),
    /money.ts:1: nothing of the program imports it/,
  );
});

test("banned calls are faults, with the cure, and what a comment says is not a call", () => {
  const fault = (line: string, path = "src/errors.ts") => faultsOf({ [path]: `// first\n${line}` });
  assert.match(fault("await fetch(url);"), /errors.ts:2: the global fetch; use undici/);
  assert.match(fault("const at = Date.now();"), /take a Clock/);
  assert.match(fault("setTimeout(() => {}, 5);"), /use after\(\)/);
  assert.match(fault("process.env.HOME;"), /sidecar\/settings.ts/);
  assert.match(fault("process.env.HOME;", "sidecar/main.ts"), /one variable of process.env/);
  assert.match(fault("console.log(1);"), /console; log through/);
  assert.match(fault("const x = y as any;"), /as any; narrow/);
  assert.match(fault("// @ts-ignore"), /silenced type error/);
  assert.equal(fault("/* Date.now() */ // as any, fetch()\nstream.setTimeout(5); undici.fetch(url);"), "");
});

/** The faults of a small house, with the given files changed or added. */
function faultsOf(changes: Readonly<Record<string, string>>): string {
  const sound = {
    "sidecar/main.ts": 'import { load } from "../src/index.ts";\nimport { serve } from "../src/keyservice/server.ts";',
    "src/index.ts": 'export { load } from "./config/load.ts";\nexport { take } from "./counters/memory.ts";',
    "src/keyservice/server.ts": 'import { a } from "../errors.ts";',
    "src/config/load.ts": 'import { a } from "../errors.ts";',
    "src/counters/memory.ts": "export function take() {}",
    "src/errors.ts": "export const a = 1;",
  };
  return findFaults(new Map(Object.entries({ ...sound, ...changes }))).join("\n");
}
