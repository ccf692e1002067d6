import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { reencryptDatabase } from "../../src/keyservice/reencryption.ts";
import { StoredModelsReader } from "../../src/keyservice/stored-models.ts";
import { Vault } from "../../src/keyservice/vault.ts";
import { Secret } from "../../src/secret.ts";
import { encryptionKeys, masterKey, Stage } from "./admin-stage.ts";

const [oldKey = new Secret("")] = encryptionKeys;
const newKey = new Secret("another-encryption-key-of-the-tests");
const program = fileURLToPath(new URL("../../sidecar/main.ts", import.meta.url));
const secretOf = (index: number) => `sk-provider-secret-${index}`;

let stage: Stage;

async function makeModels(from: number, count: number): Promise<void> {
  for (let index = from; index < from + count; index++) {
    const litellm_params = { model: "openai/x", api_key: secretOf(index) };
    const { status } = await stage.http("POST", "/model/new", {
      model_name: "m",
      litellm_params,
      model_info: { id: `m${index}` },
    });
    assert.equal(status, 200);
  }
}

/** The secrets a KeyService with these keys can read, by model. */
async function readWith(keys: readonly Secret[]): Promise<{ secrets: Map<string, unknown>; left: string[] }> {
  const logged: string[] = [];
  const log = (_level: string, _message: string, facts: Readonly<Record<string, unknown>> = {}) =>
    void logged.push(String(facts.name));
  const reader = new StoredModelsReader({ postgres: stage.postgres, vault: new Vault(keys), storesModels: true, log });
  const { models, unreadableModelIds, unreadableCredentialNames } = await reader.read();
  const left = [...unreadableModelIds, ...unreadableCredentialNames];
  assert.deepEqual(logged, left);
  return {
    secrets: new Map(models.map(({ id, entry }) => [id, (entry.litellm_params as { api_key: unknown }).api_key])),
    left,
  };
}

const reencrypt = (...keys: readonly Secret[]) =>
  reencryptDatabase({ databaseUrl: stage.database, encryptionKeys: keys, clock: systemClock, random: systemRandom });

function start(keys: string) {
  const env = {
    PATH: process.env.PATH,
    DATABASE_URL: stage.database.reveal(),
    LITELLM_MASTER_KEY: masterKey,
    TOLLGATE_ENCRYPTION_KEYS: keys,
  };
  const child = spawn(process.execPath, [program, "reencrypt"], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (text) => {
      output += String(text);
    });
  }
  return { child, ended: once(child, "close").then(([code]) => ({ code, output })) };
}

async function countUnder(key: Secret): Promise<number> {
  const sql = "SELECT count(*)::int AS count FROM models WHERE encryption_key_id = $1";
  return (await stage.sql<{ count: number }>(sql, [new Vault([key]).newestKeyId]))[0]?.count ?? 0;
}

/** Whether a connection to the stage's database waits for a row. */
async function isWaiting(): Promise<boolean> {
  const sql = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
  return (await stage.sql(sql)).length > 0;
}

describe("re-encryption", () => {
  before(async () => {
    stage = await Stage.open();
  });
  after(async () => {
    await stage.close();
    assert.deepEqual(stage.bugs, []);
  });

  it("puts models and credentials under the newest key, and changes nothing else, nor anything the second time", async () => {
    await makeModels(0, 3);
    const credential = { credential_name: "c", credential_values: { api_key: "sk-credential-secret-0123" } };
    assert.equal((await stage.http("POST", "/credentials", credential)).status, 200);
    const rows = () => stage.sql("SELECT model_id, params, info, updated_at, version FROM models ORDER BY model_id");
    const before = await rows();
    assert.equal((await readWith([newKey])).secrets.size, 0);
    assert.deepEqual(await reencrypt(newKey, oldKey), {
      changed: 4,
      unreadable: [],
      newestKeyId: new Vault([newKey]).newestKeyId,
    });
    assert.equal((await reencrypt(newKey, oldKey)).changed, 0);
    assert.deepEqual(await rows(), before);
    const { secrets, left } = await readWith([newKey]);
    assert.deepEqual([...secrets.values()], [0, 1, 2].map(secretOf));
    assert.deepEqual(left, []);
    assert.equal((await readWith([oldKey])).left.length, 4);
    assert.equal((await reencrypt(oldKey, newKey)).changed, 4);
  });

  it("leaves what no key opens as it is, names it, and goes on", async () => {
    await stage.sql("UPDATE models SET encryption_key_id = 'lost' WHERE model_id = 'm1'");
    const { changed, unreadable } = await reencrypt(newKey, oldKey);
    assert.deepEqual([changed, unreadable], [3, ["model m1"]]);
    const { code, output } = await start(`${oldKey.reveal()},${newKey.reveal()}`).ended;
    assert.deepEqual([code, output.match(/^\d+ rows/)?.[0]], [70, "3 rows"]);
    assert.match(output, /No key of TOLLGATE_ENCRYPTION_KEYS, nor the salt key, opens the secrets of model m1\./);
    assert.equal((await start("too-short").ended).code, 64);
    await stage.sql("UPDATE models SET encryption_key_id = $1 WHERE model_id = 'm1'", [
      new Vault([oldKey]).newestKeyId,
    ]);
    assert.equal((await reencrypt(oldKey, newKey)).changed, 0);
  });

  it("as a program may be killed at any time, while models are made and changed, and be run again", async () => {
    await makeModels(3, 297);
    const keys = [newKey, oldKey].map((key) => key.reveal()).join("\n");
    const { child, ended } = start(keys);
    let writes = 0;
    // Somebody else holds a row in the middle, and there the program is killed.
    await stage.postgres.transaction(async (client) => {
      await client.query("SELECT FROM models WHERE model_id = 'm200' FOR UPDATE");
      while (!(await isWaiting()) && child.exitCode === null) {
        // The stage knows the old key only, as a KeyService that is not told of the new one yet.
        const litellm_params = { model: "openai/x", api_key: "sk-late-secret" };
        const model_info = { id: `late-${writes++}` };
        await stage.http("POST", "/model/new", { model_name: "m", litellm_params, model_info });
      }
      child.kill("SIGKILL");
      await ended;
    });
    const { secrets: done } = await readWith([newKey]);
    assert.deepEqual(
      [done.has("m1"), done.has("m200"), done.has("m99")],
      [true, false, false],
      "it was killed halfway",
    );
    assert.equal((await readWith([newKey, oldKey])).secrets.size, 300 + writes, "everything can be read in between");
    const again = await start(keys).ended;
    assert.equal(again.code, 0, again.output);
    assert.equal(again.output.includes("sk-"), false);
    assert.equal(await countUnder(newKey), 300 + writes);
    const { secrets, left } = await readWith([newKey]);
    assert.deepEqual(left, []);
    for (let index = 0; index < 300; index++) assert.equal(secrets.get(`m${index}`), secretOf(index));
  });
});
