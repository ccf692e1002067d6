import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { nothingStored, type StoredModels } from "../../src/config/stored-models.ts";
import { ModelSync, type ModelsAnswer } from "../../src/keys/model-sync.ts";
import { HandClock } from "./hand-clock.ts";
import { Log } from "./samples.ts";

/** A KeyService that answers after 10 ms with what it had when it was asked. */
class Stage {
  readonly clock = new HandClock();
  readonly log = new Log();
  readonly applied: string[] = [];
  version = 1n;
  names: readonly string[] = ["m1"];
  asked = 0;
  isAway = false;
  applyFails = false;
  readonly sync = new ModelSync({
    ask: () => this.#answer(),
    apply: (stored) => this.#apply(stored),
    clock: this.clock,
    random: () => 0.5,
    telemetry: this.log,
  });

  change(...names: string[]): void {
    this.names = names;
    this.version++;
    this.sync.heard(this.version);
  }

  async #answer(): Promise<ModelsAnswer> {
    this.asked++;
    const { version, names } = this;
    await new Promise<void>((resolve) => void this.clock.after(10, resolve));
    if (this.isAway) throw new Error("away");
    return { ...nothingStored, version, models: names.map((id) => ({ id, entry: {} })) };
  }

  async #apply({ models }: StoredModels): Promise<void> {
    if (this.applyFails) throw new Error("a bug");
    this.applied.push(models.map(({ id }) => id).join());
  }
}

describe("the database's models", () => {
  it("are brought when they are heard of, and not before", async () => {
    const stage = new Stage();
    await stage.clock.advance(1_000);
    assert.deepEqual([stage.asked, stage.sync.isSettled], [0, false]);
    stage.sync.heard(1n);
    await stage.clock.advance(20);
    assert.deepEqual([stage.applied, stage.sync.isSettled], [["m1"], true]);
    await stage.clock.advance(60_000);
    assert.equal(stage.asked, 1);
  });

  it("are asked for again when they change while they are on their way, however often that is", async () => {
    const stage = new Stage();
    stage.sync.heard(1n);
    await stage.clock.advance(5);
    for (let change = 0; change < 10; change++) stage.change("m1", `c${change}`);
    await stage.clock.advance(500);
    assert.equal(stage.applied.at(-1), "m1,c9");
    assert.ok(stage.asked <= 3, `${stage.asked} questions`);
  });

  it("are not taken from an answer that is older than what was heard", async () => {
    const stage = new Stage();
    stage.sync.heard(2n);
    await stage.clock.advance(200);
    assert.deepEqual(stage.applied, []);
    stage.version = 2n;
    stage.names = ["m2"];
    await stage.clock.advance(10_000);
    assert.deepEqual(stage.applied, ["m2"]);
  });

  it("stay as they are while the KeyService is away, and follow when it is back; a start does not wait for it", async () => {
    const stage = new Stage();
    stage.sync.heard(1n);
    await stage.clock.advance(20);
    stage.isAway = true;
    stage.change("m2");
    await stage.clock.advance(60_000);
    assert.deepEqual(stage.applied, ["m1"]);
    assert.ok(stage.log.count("warn") > 3 && stage.asked < 20, `${stage.asked} questions`);
    stage.isAway = false;
    await stage.clock.advance(15_000);
    assert.deepEqual(stage.applied, ["m1", "m2"]);
    stage.isAway = true;
    stage.change("m3");
    await stage.clock.advance(60_000);
    stage.isAway = false;
    stage.sync.heard(stage.version);
    await stage.clock.advance(50);
    assert.equal(stage.applied.at(-1), "m3", "who is heard again is asked at once");
    const late = new Stage();
    late.isAway = true;
    late.sync.heard(1n);
    await late.clock.advance(20);
    assert.equal(late.sync.isSettled, true);
    const closing = late.sync.close();
    await late.clock.advance(20);
    await closing;
  });

  it("are brought again after they could not be put into force", async () => {
    const stage = new Stage();
    stage.applyFails = true;
    stage.sync.heard(1n);
    await stage.clock.advance(20);
    stage.applyFails = false;
    await stage.clock.advance(1_000);
    assert.deepEqual(stage.applied, ["m1"]);
  });

  it("are not asked for after the end", async () => {
    const stage = new Stage();
    await stage.sync.close();
    stage.sync.heard(1n);
    await stage.clock.advance(1_000);
    assert.equal(stage.asked, 0);
  });
});
