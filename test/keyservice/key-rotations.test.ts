import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import { findGrant } from "../../src/keyservice/grants.ts";
import { KeyRotations } from "../../src/keyservice/key-rotations.ts";
import { noKeyRules } from "../../src/keyservice/key-rules.ts";
import { Keys } from "../../src/keyservice/keys.ts";
import { Operator } from "../../src/keyservice/operator.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { SignedDatabase } from "../../src/keyservice/signed-database.ts";
import { Vault } from "../../src/keyservice/vault.ts";
import { Secret } from "../../src/secret.ts";
import { HttpReceiver } from "../alert-receivers.ts";
import { encryptionKeys, pepper, Stage } from "./admin-stage.ts";

const dayMs = 86_400_000;
const graceMs = 3_600_000;

let stage: Stage;
let receiver: HttpReceiver;
const logged: string[] = [];
before(async () => {
  [stage, receiver] = await Promise.all([Stage.open({ deliversSecrets: true }), HttpReceiver.open()]);
});
after(async () => {
  await Promise.all([stage.close(), receiver.close()]);
  assert.deepEqual(stage.bugs, []);
});

const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + stage.aheadMs };

/** A replica's. */
function replica(): KeyRotations {
  const operator = new Operator({ name: "auto_rotate", role: "proxy_admin" });
  const books = stage.postgres;
  const postgres = new SignedDatabase({ database: books, operator });
  const keys = new Keys({
    operator,
    postgres,
    pepper,
    clock,
    timeZone: "UTC",
    deliversSecrets: true,
    keyRules: noKeyRules,
  });
  const target = { url: new Secret(`${receiver.origin}/rotated`), graceMs };
  const log = (...line: unknown[]) => void logged.push(JSON.stringify(line));
  return new KeyRotations({ books, keys, vault: new Vault(encryptionKeys), target, clock, log });
}

const opens = async (secret: string) => (await findGrant(stage.postgres, digestSecret(secret), pepper)) !== undefined;
const endOf = async (keyId: string) => {
  const [row] = await stage.sql<{ ends_at: Date }>("SELECT ends_at FROM former_secrets WHERE key_id = $1", [keyId]);
  return row?.ends_at.getTime();
};
const dueNow = () => stage.sql("UPDATE key_rotations SET next_attempt_at = now()");

async function rotating(alias: string) {
  const { status, body } = await stage.http("POST", "/key/generate", {
    ...{ key_alias: alias, auto_rotate: true, rotation_interval: "30d" },
  });
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

test("a key rotates when its interval is over, not before; one who is to have the new secret gets it, and the old one has a grace", async () => {
  const made = await rotating("turns");
  const rotations = replica();
  stage.aheadMs = 29 * dayMs;
  await rotations.rotateDue();
  assert.equal(receiver.posted.length, 0);
  stage.aheadMs = 30 * dayMs + 1_000;
  await rotations.rotateDue();
  const [posted] = receiver.posted.splice(0);
  assert.equal(posted?.path, "/rotated");
  const { event, id, key_id, key_alias, key } = posted.body;
  assert.deepEqual([event, key_id, key_alias], ["key_rotated", made.key_id, "turns"]);
  assert.equal(posted.headers["idempotency-key"], id);
  assert.ok((await opens(key)) && (await opens(made.key)) && key !== made.key);
  const ends = (await endOf(made.key_id)) ?? 0;
  assert.ok(Math.abs(ends - clock.nowMs() - graceMs) < 10_000);
  await rotations.rotateDue();
  assert.equal(receiver.posted.length, 0, "once an interval");
  stage.aheadMs = 61 * dayMs;
  await rotations.rotateDue();
  assert.equal(receiver.posted.splice(0).length, 1);
  await rotations.close();
  stage.aheadMs = 0;
  const { body } = await stage.http("GET", `/audit?object_id=${made.key_id}&action=updated`);
  assert.equal(body.audit_logs[0].changed_by, "auto_rotate");
});

test("while the new secret cannot be delivered the old one works on, whatever crashes; the same one is delivered in the end", async () => {
  const made = await rotating("waits");
  stage.aheadMs = 31 * dayMs;
  receiver.statuses.push(500, 503);
  // Each with a replica of its own, as if the one before had died.
  for (let attempt = 0; attempt < 2; attempt++) {
    await dueNow();
    const rotations = replica();
    await rotations.rotateDue();
    await rotations.close();
    assert.ok(((await endOf(made.key_id)) ?? 0) > clock.nowMs() + 365 * dayMs);
    assert.ok(await opens(made.key));
  }
  const [stored] = await stage.sql<{ text: string }>("SELECT key_rotations::text AS text FROM key_rotations");
  assert.ok(stored !== undefined && !stored.text.includes("sk-"));
  await dueNow();
  const rotations = replica();
  await rotations.rotateDue();
  await rotations.close();
  const [posted] = receiver.posted.splice(0);
  assert.ok(await opens(posted?.body.key));
  assert.ok(((await endOf(made.key_id)) ?? 0) < clock.nowMs() + 2 * graceMs);
  assert.deepEqual(await stage.sql("SELECT FROM key_rotations"), []);
  assert.equal((await stage.http("GET", `/key/info?key=${made.key_id}`)).body.info.rotation_count, 1);
  assert.ok(logged.some((line) => line.includes("answered 500")) && !logged.some((line) => line.includes("sk-")));
  stage.aheadMs = 0;
});

test("of several replicas one rotates a key, and a deleted or blocked one is left alone", async () => {
  const [made, gone, blocked] = [await rotating("raced"), await rotating("gone"), await rotating("blocked")];
  await stage.http("POST", "/key/delete", { keys: [gone.key] });
  await stage.http("POST", "/key/block", { key: blocked.key });
  // The others of this file are due as well.
  await stage.sql("UPDATE keys SET blocked = true WHERE alias IN ('turns', 'waits')");
  stage.aheadMs = 31 * dayMs;
  const replicas = Array.from({ length: 4 }, replica);
  await Promise.all(replicas.map((each) => each.rotateDue()));
  assert.deepEqual(
    receiver.posted.splice(0).map(({ body }) => body.key_id),
    [made.key_id],
  );
  await Promise.all(replicas.map((each) => each.close()));
  stage.aheadMs = 0;
});

test("what is said of it is checked", async () => {
  const { body: made } = await stage.http("POST", "/key/generate", {});
  for (const [fields, param] of [
    [{ auto_rotate: true }, "rotation_interval"],
    [{ auto_rotate: "yes", rotation_interval: "30d" }, "auto_rotate"],
    [{ auto_rotate: true, rotation_interval: "soon" }, "rotation_interval"],
    [{ rotation_interval: 5 }, "rotation_interval"],
  ] as const) {
    for (const [path, body] of [
      ["/key/generate", fields],
      ["/key/update", { key: made.key, ...fields }],
    ] as const) {
      const answer = await stage.http("POST", path, body);
      assert.deepEqual([answer.status, answer.body.error.param], [400, param], JSON.stringify(body));
    }
  }
  await stage.http("POST", "/key/update", { key: made.key, rotation_interval: "7d" });
  const { status } = await stage.http("POST", "/key/update", { key: made.key, auto_rotate: true });
  assert.equal(status, 200, "the interval is known already");
});
