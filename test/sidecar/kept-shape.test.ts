import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const keptShape = fileURLToPath(new URL("../../sidecar/kept-shape.ts", import.meta.url));

/** Times ticks before and after everything was collected while none was queued: the quickest of some turns, in nanoseconds each. */
const program = `
  import { keepTickShape } from ${JSON.stringify(keptShape)};
  const isKept = process.argv[1] === "kept" && keepTickShape();
  const ticksNs = () => new Promise((resolve) => {
    let left = 300_000;
    const start = process.hrtime.bigint();
    const tick = () => (--left === 0 ? resolve(Number(process.hrtime.bigint() - start) / 300_000) : process.nextTick(tick));
    tick();
  });
  const quickestNs = async () => {
    const turns = [];
    for (let turn = 0; turn < 6; turn++) turns.push(await ticksNs());
    return Math.min(...turns);
  };
  const before = await quickestNs();
  await new Promise((resolve) => setTimeout(resolve, 20));
  gc({ type: "major", execution: "sync", flavor: "last-resort" });
  const after = await quickestNs();
  console.log(JSON.stringify({ isKept, ratio: after / before }));
`;

function ticks(how: "kept" | "lost"): { readonly isKept: boolean; readonly ratio: number } {
  const args = ["--expose-gc", "--input-type=module", "--eval", program, how];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
}

test("a tick costs the same after a collection of the whole heap, which without a kept one it does not", () => {
  const [kept, lost] = [ticks("kept"), ticks("lost")];
  assert.ok(kept.isKept);
  assert.ok(!lost.isKept);
  assert.ok(kept.ratio < 2, `${kept.ratio} times as much`);
  // Once this fails, the engine has mended it, and the kept one can go.
  assert.ok(lost.ratio > 2, `only ${lost.ratio} times as much without`);
});
