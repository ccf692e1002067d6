import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, beforeEach, describe, it } from "node:test";
import { ProviderWatch } from "../../src/keyservice/alerts/provider-watch.ts";
import type { SpendStatus } from "../../src/keyservice/settlements.ts";
import { BooksStage, spend } from "./books-stage.ts";

describe("providers that fail", () => {
  let stage: BooksStage;
  let watch: ProviderWatch;
  let keyId: string;
  before(async () => {
    stage = await BooksStage.open();
    watch = new ProviderWatch({ books: stage.postgres, clock: stage.clock });
    keyId = await stage.key(undefined);
  });
  after(() => stage.close());
  beforeEach(() => stage.postgres.query("DELETE FROM alerts"));

  /** Books calls at `at`, each with one attempt at each of these deployments. */
  async function calls(at: string, count: number, ...attempts: [deploymentId: string, status: SpendStatus][]) {
    stage.nowMs = Date.parse(at);
    const startedAt = new Date(at);
    const records = Array.from({ length: count }, () => randomUUID()).flatMap((callId) =>
      attempts.map(([deploymentId, status], index) =>
        spend(keyId, 0n, { callId, attempt: index + 1, deploymentId, status, startedAt, endedAt: startedAt }),
      ),
    );
    await stage.settle(...records);
  }

  async function noted(at: string) {
    stage.nowMs = Date.parse(at);
    await Promise.all(Array.from({ length: 3 }, () => watch.look()));
    return stage.postgres.query<{ kind: string; scope_id: string; facts: Record<string, string> }>(
      "SELECT kind, scope_id, facts FROM alerts ORDER BY alert_id",
    );
  }

  const kinds = async (at: string) => (await noted(at)).map(({ kind, scope_id: id }) => `${kind} ${id}`);

  it("a deployment that fails every call is noted once an hour, and once that it answers again", async () => {
    await calls("2027-01-01T10:00:00Z", 9, ["a", "failure"]);
    assert.deepEqual(await noted("2027-01-01T10:01:00Z"), [], "too few to tell");
    await calls("2027-01-01T10:01:30Z", 1, ["a", "failure"]);
    assert.deepEqual(await noted("2027-01-01T10:02:00Z"), [
      { kind: "provider_down", scope_id: "a", facts: { provider: "openai", failures_in_5_minutes: "10" } },
    ]);
    await calls("2027-01-01T10:03:00Z", 10, ["a", "failure"]);
    assert.equal((await noted("2027-01-01T10:04:00Z")).length, 1);
    await calls("2027-01-01T11:00:00Z", 10, ["a", "failure"]);
    assert.equal((await noted("2027-01-01T11:00:30Z")).length, 2, "it is down still");
    await calls("2027-01-01T11:02:00Z", 1, ["a", "success"]);
    assert.deepEqual((await kinds("2027-01-01T11:03:00Z")).slice(2), ["provider_up a"]);
    assert.equal((await noted("2027-01-01T11:04:00Z")).length, 3);
  });

  it("one that answers some is not down, nor are calls that their callers gave up failures", async () => {
    await calls("2027-01-02T10:00:00Z", 30, ["b", "failure"]);
    await calls("2027-01-02T10:00:01Z", 1, ["b", "success"]);
    await calls("2027-01-02T10:00:02Z", 30, ["c", "cancelled"]);
    assert.deepEqual(await noted("2027-01-02T10:01:00Z"), []);
  });

  it("an answer of it that is given again does not say that it answers", async () => {
    const at = "2027-01-02T12:00:00Z";
    await calls(at, 10, ["kept", "failure"]);
    await stage.settle(spend(keyId, 0n, { deploymentId: "kept", cacheHit: true, startedAt: new Date(at) }));
    assert.deepEqual(await kinds("2027-01-02T12:01:00Z"), ["provider_down kept"]);
  });

  it("what a journal tells late, of a time that is over, is no news", async () => {
    await calls("2027-01-03T10:00:00Z", 0);
    const startedAt = new Date("2027-01-03T08:00:00Z");
    const records = Array.from({ length: 20 }, () =>
      spend(keyId, 0n, { deploymentId: "d", status: "failure", startedAt }),
    );
    await stage.settle(...records);
    assert.deepEqual(await noted("2027-01-03T10:00:10Z"), []);
  });

  it("a model of which a fifth is answered by another deployment than the first choice is noted", async () => {
    await calls("2027-01-04T10:00:00Z", 17, ["e", "success"]);
    await calls("2027-01-04T10:00:01Z", 4, ["f", "failure"], ["e", "success"]);
    assert.deepEqual(await noted("2027-01-04T10:01:00Z"), [], "four of 21");
    await calls("2027-01-04T10:01:01Z", 1, ["f", "failure"], ["e", "success"]);
    assert.deepEqual(await noted("2027-01-04T10:02:00Z"), [
      { kind: "fallback_rate", scope_id: "gpt", facts: { answered_in_5_minutes: "22", by_fallback: "5" } },
    ]);
  });

  it("an attempt repeated at the same deployment is no fallback, and few calls tell nothing", async () => {
    await calls("2027-01-05T10:00:00Z", 25, ["g", "failure"], ["g", "success"]);
    assert.deepEqual(await noted("2027-01-05T10:01:00Z"), []);
    await calls("2027-01-05T12:00:00Z", 9, ["f", "failure"], ["e", "success"]);
    assert.deepEqual(await noted("2027-01-05T12:01:00Z"), []);
  });
});
