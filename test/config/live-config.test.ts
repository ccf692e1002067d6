import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { Config } from "../../src/config/config.ts";
import { LiveConfig, type Outcome } from "../../src/config/live-config.ts";
import type { ConfigReading, LoadResult } from "../../src/config/load.ts";
import { remarkText } from "../../src/config/remarks.ts";
import { nothingStored, type StoredModel, type ToldModels } from "../../src/config/stored-models.ts";
import { readingOf } from "./temporary.ts";

const fileWith = (id: string) =>
  `model_list: [{model_name: m, litellm_params: {model: m, mock_response: hi}, model_info: {id: ${id}}}]`;
const badFile = "model_list: [{model_name: m, litellm_params: {model: m, rpm: many}}]";

function stored(id: string, params: object = {}): StoredModel {
  return {
    id,
    entry: { model_name: "m", litellm_params: { model: "m", mock_response: "hi", ...params }, model_info: { id } },
  };
}

const models = (...given: StoredModel[]): ToldModels => ({ ...nothingStored, models: given });

class Stage {
  readonly applied: Config[] = [];
  readonly outcomes: Outcome[] = [];
  readonly live: LiveConfig;

  constructor(reading: ConfigReading) {
    const apply = (config: Config) => void this.applied.push(config);
    const onChange = (outcome: Outcome) => void this.outcomes.push(outcome);
    this.live = new LiveConfig({ reading, clock: systemClock, apply, onChange });
  }

  static async open(context: TestContext): Promise<Stage> {
    return new Stage(await readingOf(context, fileWith("f1")));
  }

  get ids(): readonly string[] {
    return (
      this.applied
        .at(-1)
        ?.modelGroups.get("m")
        ?.map(({ id }) => id) ?? []
    );
  }

  get last(): Outcome | undefined {
    return this.outcomes.at(-1);
  }
}

test("a change of the file keeps the database's models, and one of these keeps the file", async (context) => {
  const stage = await Stage.open(context);
  await stage.live.store(models(stored("s1")));
  assert.deepEqual(stage.ids, ["f1", "s1"]);
  await stage.live.reload(await readingOf(context, fileWith("f2")));
  assert.deepEqual(stage.ids, ["f2", "s1"]);
  await stage.live.store(models(stored("s2")));
  assert.deepEqual(stage.ids, ["f2", "s2"]);
  assert.equal(stage.live.storedCount, 1);
  assert.ok(stage.outcomes.every(({ ok }) => ok));
});

test("a file with a fault changes nothing, then or later, and its faults are told", async (context) => {
  const stage = await Stage.open(context);
  await stage.live.store(models(stored("s1")));
  await stage.live.reload(await readingOf(context, badFile));
  assert.equal(stage.applied.length, 1);
  assert.ok(stage.last?.ok === false);
  assert.match(
    stage.last.faults.map(remarkText).join("\n"),
    /config.yaml:1: model_list\[0\].litellm_params.rpm: found "many"/,
  );
  await stage.live.store(models(stored("s2")));
  assert.deepEqual(stage.ids, ["f1", "s2"]);
});

test("a stored model with a fault is served as it last was good, or not, and holds up no other", async (context) => {
  const stage = await Stage.open(context);
  await stage.live.store(models(stored("s1", { rpm: 1 }), stored("new", { rpm: "many" })));
  assert.deepEqual(stage.ids, ["f1", "s1"]);
  await stage.live.store(models(stored("s1", { rpm: "many" }), stored("s2"), stored("new", { rpm: "many" })));
  assert.deepEqual(stage.ids, ["f1", "s1", "s2"]);
  assert.equal(stage.applied.at(-1)?.modelGroups.get("m")?.[1]?.rpm, 1);
  assert.ok(stage.last?.ok === true);
  assert.deepEqual(
    stage.last.heldBack.map(({ modelId }) => modelId),
    ["new", "s1"],
  );
  await stage.live.store(models(stored("s1", { rpm: 2 }), stored("new")));
  assert.deepEqual(stage.ids, ["f1", "s1", "new"]);
  assert.ok(stage.last?.ok === true && stage.last.heldBack.length === 0);
});

test("a stored model that was good with another file and is not with this one is left out", async (context) => {
  const yaml = (rpm: string) => `${fileWith("f1")}\nenvironment_variables: {RPM: ${rpm}}`;
  const stage = new Stage(await readingOf(context, yaml('"5"')));
  await stage.live.store(models(stored("s1", { rpm: "os.environ/RPM" }), stored("s2")));
  assert.deepEqual(stage.ids, ["f1", "s1", "s2"]);
  await stage.live.reload(await readingOf(context, yaml("many")));
  assert.deepEqual(stage.ids, ["f1", "s2"]);
});

test("a file and a stored model with faults together: the file's change nothing", async (context) => {
  const stage = await Stage.open(context);
  await stage.live.store(models(stored("s1", { rpm: "many" })));
  await stage.live.reload(await readingOf(context, badFile));
  assert.deepEqual(stage.ids, ["f1"]);
  assert.equal(stage.last?.ok, false);
});

test("what the KeyService cannot decrypt any more is served as it last was, told, and holds up no other", async (context) => {
  const stage = await Stage.open(context);
  const credentials = [{ name: "c", values: { rpm: 7 } }];
  const borrower = stored("b", { litellm_credential_name: "c" });
  await stage.live.store({ ...models(stored("s1"), borrower), credentials });
  const unreadable = { unreadableModels: ["s1", "never-seen"], unreadableCredentials: ["c"] };
  await stage.live.store({ ...models(borrower, stored("s2")), ...unreadable });
  assert.deepEqual(stage.ids.toSorted(), ["b", "f1", "s1", "s2"]);
  const rpmOf = (wanted: string) =>
    stage.applied
      .at(-1)
      ?.modelGroups.get("m")
      ?.find(({ id }) => id === wanted)?.rpm;
  assert.equal(rpmOf("b"), 7);
  assert.ok(stage.last?.ok === true);
  assert.deepEqual(stage.last.heldBack.map(remarkText), [
    "the database's model s1: the KeyService cannot decrypt it; its log says why",
    "the database's model never-seen: the KeyService cannot decrypt it; its log says why",
    "the database's credential c: the KeyService cannot decrypt it; its log says why",
  ]);
  await stage.live.store({ ...models(borrower), credentials });
  assert.deepEqual(stage.ids, ["f1", "b"]);
  assert.ok(stage.last?.ok === true && stage.last.heldBack.length === 0);
});

test("what was stored while it could not be put into force is, as soon as the file allows it", async (context) => {
  const borrowing = (rpm: string) =>
    `model_list: [{model_name: m, litellm_params: {model: m, mock_response: hi${rpm}, litellm_credential_name: c}}]`;
  const stage = new Stage(await readingOf(context, borrowing("")));
  await stage.live.store({ ...models(stored("s1")), credentials: [{ name: "c", values: { rpm: "many" } }] });
  assert.ok(stage.last?.ok === false);
  assert.equal(stage.applied.length, 0);
  await stage.live.reload(await readingOf(context, borrowing(", rpm: 3")));
  assert.equal(stage.ids.at(-1), "s1");
});

test("what is stored unchanged is not compiled again, and notices are told once", async (context) => {
  const stage = await Stage.open(context);
  await stage.live.store(models());
  assert.equal(stage.applied.length, 0);
  await stage.live.store(models(stored("s1", { api_kye: "x" })));
  await stage.live.store(models(stored("s1", { api_kye: "x" })));
  assert.equal(stage.applied.length, 1);
  await stage.live.store(models(stored("s1", { api_kye: "x" }), stored("s2")));
  const told = stage.outcomes.flatMap((outcome) => (outcome.ok ? outcome.notices : []));
  assert.equal(told.filter(({ path }) => path === "litellm_params.api_kye").length, 1);
});

test("of two changes the later one is in force, however long the earlier one takes", async (context) => {
  const slow = await readingOf(context, fileWith("slow"));
  let release = () => {};
  const blocked = new Promise<void>((resolve) => {
    release = resolve;
  });
  class SlowReading {
    async compile(parts: Parameters<ConfigReading["compile"]>[0]): Promise<LoadResult> {
      await blocked;
      return slow.compile(parts);
    }
  }
  const stage = await Stage.open(context);
  const first = stage.live.reload(new SlowReading() as ConfigReading);
  const second = stage.live.reload(await readingOf(context, fileWith("fast")));
  release();
  await Promise.all([first, second]);
  assert.deepEqual(
    stage.applied.map((config) => config.modelGroups.get("m")?.[0]?.id),
    ["slow", "fast"],
  );
});
