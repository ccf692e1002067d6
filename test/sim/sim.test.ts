import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Simulation } from "./simulation.ts";

describe("the house in virtual time", () => {
  it("keeps every promise in 300 runs with faults of all kinds", async () => {
    for (let seed = 1; seed <= 300; seed++) {
      const { violation } = await new Simulation(seed).run();
      assert.equal(violation, undefined, `seed ${seed}: npm run test:sim -- --seed ${seed} --trace`);
    }
  });

  it("does the same again for the same seed, and something else for another", async () => {
    const hashes = new Set<number>();
    for (let seed = 1; seed <= 20; seed++) {
      const lines: string[] = [];
      const first = await new Simulation(seed, (line) => lines.push(line)).run();
      const again: string[] = [];
      const second = await new Simulation(seed, (line) => again.push(line)).run();
      assert.deepEqual(again, lines);
      assert.deepEqual([second.traceHash, second.events], [first.traceHash, first.events]);
      hashes.add(first.traceHash);
    }
    assert.equal(hashes.size, 20);
  });

  it("can be run again from the command line, step by step", () => {
    const run = spawnSync(process.execPath, [join(import.meta.dirname, "run.ts"), "--seed", "7", "--trace"], {
      encoding: "utf8",
    });
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /pod0 starts/);
    assert.match(run.stdout, /seed 7: every promise held/);
  });
});
