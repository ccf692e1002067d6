import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const main = readFileSync(new URL("../../sidecar/main.ts", import.meta.url), "utf8");

test("each flag that a program sets is one this engine has, and sets it to what it is not by itself", () => {
  const known = execFileSync(process.execPath, ["--v8-options"], { encoding: "utf8" });
  const set = Array.from(main.matchAll(/setFlagsFromString\("(--(?:no-)?([a-z-]+)(=\d+)?)"\)/g), ([, flag, name]) => ({
    flag,
    name,
  }));
  assert.equal(set.length, main.split("setFlagsFromString(").length - 1);
  for (const { flag, name } of set) {
    const itself = new RegExp(`^  --${name} .*\\n +type: (?:bool|int) +default: (--\\S+)$`, "m").exec(known);
    assert.ok(itself, `there is no flag ${name}`);
    assert.notEqual(flag, itself[1], `${name} is so by itself`);
  }
});
