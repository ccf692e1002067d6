import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { readSettings, SettingsError, type Variables } from "../../sidecar/settings.ts";

function faultsOf(env: Variables): readonly string[] {
  try {
    readSettings(env, "host-1");
  } catch (error) {
    assert.ok(error instanceof SettingsError);
    return error.message.split("\n");
  }
  return [];
}

test("an empty environment gives the defaults", () => {
  const settings = readSettings({}, "host-1");
  assert.equal(settings.host, "127.0.0.1");
  assert.equal(settings.port, 4000);
  assert.equal(settings.adminPort, 4001);
  assert.equal(settings.keyserviceUrl, "http://127.0.0.1:4100");
  assert.equal(settings.keyserviceToken, undefined);
  assert.equal(settings.podId, "host-1");
  assert.equal(settings.journalFsync, "interval");
  assert.equal(settings.graceMs, 30_000);
  assert.equal(settings.masterKey, undefined);
});

test("an empty variable is as good as none", () => {
  assert.deepEqual(
    { ...readSettings({ TOLLGATE_PORT: "", LITELLM_MASTER_KEY: "" }, "h"), env: {} },
    { ...readSettings({}, "h"), env: {} },
  );
});

test("every wrong value is named at once", () => {
  const faults = faultsOf({
    TOLLGATE_PORT: "70000",
    TOLLGATE_ADMIN_PORT: "1e3",
    TOLLGATE_GRACE_S: "-1",
    TOLLGATE_KEY_STALE_S: " ",
    TOLLGATE_JOURNAL_FSYNC: "sometimes",
    TOLLGATE_LOG_LEVEL: "loud",
    TOLLGATE_TIMEZONE: "Mars/Olympus",
    KEYSERVICE_URL: "keyservice:4100",
  });
  assert.deepEqual(
    faults.map((fault) => fault.split(":")[0]).sort(),
    [
      "KEYSERVICE_URL",
      "TOLLGATE_ADMIN_PORT",
      "TOLLGATE_GRACE_S",
      "TOLLGATE_JOURNAL_FSYNC",
      "TOLLGATE_KEY_STALE_S",
      "TOLLGATE_LOG_LEVEL",
      "TOLLGATE_PORT",
      "TOLLGATE_TIMEZONE",
    ].sort(),
  );
  assert.match(faults.find((fault) => fault.startsWith("TOLLGATE_TIMEZONE")) ?? "", /"Mars\/Olympus" .*Europe\/Berlin/);
  assert.match(faults.find((fault) => fault.startsWith("TOLLGATE_PORT")) ?? "", /"70000".* 0 to 65535/);
});

test("a secret is taken from its variable, else from its file", () => {
  const directory = mkdtempSync(join(tmpdir(), "tollgate-settings-"));
  try {
    const file = join(directory, "key");
    writeFileSync(file, "sk-from-file\n");
    const empty = join(directory, "empty");
    writeFileSync(empty, "\n");
    const read = (env: Variables) => readSettings(env, "h").masterKey?.reveal();
    assert.equal(read({ LITELLM_MASTER_KEY_FILE: file }), "sk-from-file");
    assert.equal(read({ LITELLM_MASTER_KEY: "sk-own", LITELLM_MASTER_KEY_FILE: file }), "sk-own");
    assert.match(faultsOf({ LITELLM_MASTER_KEY_FILE: empty }).join(), /LITELLM_MASTER_KEY_FILE: .* is empty/);
    assert.match(
      faultsOf({ DATABASE_URL_FILE: join(directory, "none") }).join(),
      /DATABASE_URL_FILE: .* cannot be read/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("settings print no secrets", () => {
  const env = { LITELLM_MASTER_KEY: "sk-hidden", LITELLM_SALT_KEY: "hidden", TOLLGATE_KEYSERVICE_TOKEN: "hidden" };
  const { env: _, ...settings } = readSettings(env, "h");
  assert.doesNotMatch(JSON.stringify(settings) + inspect(settings), /hidden/);
});
