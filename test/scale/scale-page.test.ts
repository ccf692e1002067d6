import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { scaleTables } from "./scale-tables.ts";

const root = join(import.meta.dirname, "../..");
const page = readFileSync(join(root, "deploy/SCALE.md"), "utf8");

describe("deploy/SCALE.md", () => {
  it("has the constants as the code has them", () => {
    const rows = [...page.matchAll(/^\| `(\w+)` \| ([\d,]+)[^|]* \| `([\w./-]+)` \|/gm)];
    assert.ok(rows.length >= 10);
    for (const [, name, value = "", file = ""] of rows) {
      const plain = value.replaceAll(",", "");
      const written = new RegExp(`const ${name} = ([\\d_]+)n?;`).exec(readFileSync(join(root, file), "utf8"));
      assert.equal(written?.[1]?.replaceAll("_", ""), plain, `${name} in ${file}`);
    }
  });

  it("has what sidecars ask, as they do in virtual time", async () => {
    const { perSidecar, perFleet } = await scaleTables();
    const lines = new Set(page.split("\n"));
    const missing = [...perSidecar, ...perFleet].filter((line) => !lines.has(line));
    assert.deepEqual(missing, [], `put these lines into deploy/SCALE.md:\n${[...perSidecar, ...perFleet].join("\n")}`);
  });
});
