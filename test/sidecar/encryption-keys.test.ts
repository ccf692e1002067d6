import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { keyServiceFacts } from "../../sidecar/keyservice.ts";
import { readSettings, SettingsError, type Variables } from "../../sidecar/settings.ts";

const base: Variables = { DATABASE_URL: "postgresql://u@h/d", LITELLM_MASTER_KEY: "sk-1234" };
const [older, newer] = ["an-older-encryption-key", "a-newer-encryption-key"];

function keysOf(env: Variables): readonly string[] {
  const { encryptionKeys } = keyServiceFacts(readSettings({ ...base, ...env }, "host-1"), undefined);
  return encryptionKeys.map((key) => key.reveal());
}

test("secrets are encrypted with the first of TOLLGATE_ENCRYPTION_KEYS, else the salt key, else the master key", () => {
  assert.deepEqual(keysOf({}), ["sk-1234"]);
  assert.deepEqual(keysOf({ LITELLM_SALT_KEY: "salt" }), ["salt"]);
  const expected = [newer, older, "salt"];
  assert.deepEqual(keysOf({ LITELLM_SALT_KEY: "salt", TOLLGATE_ENCRYPTION_KEYS: ` ${newer},\n${older}\n` }), expected);
});

test("the keys may be in files", (context) => {
  const directory = mkdtempSync(join(tmpdir(), "tollgate-keys-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const fileWith = (name: string, text: string) => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const env = {
    LITELLM_SALT_KEY_FILE: fileWith("salt", "salt\n"),
    TOLLGATE_ENCRYPTION_KEYS_FILE: fileWith("keys", `${newer}\n${older}\n`),
  };
  assert.deepEqual(keysOf(env), [newer, older, "salt"]);
});

test("a key that could be guessed is refused; the salt key may be named before a new one, however short it is", () => {
  assert.deepEqual(keysOf({ LITELLM_SALT_KEY: "salt", TOLLGATE_ENCRYPTION_KEYS: `salt,${newer}` }), [
    ...["salt", newer],
    "salt",
  ]);
  assert.throws(
    () => keysOf({ LITELLM_SALT_KEY: "salt", TOLLGATE_ENCRYPTION_KEYS: `short,${newer}` }),
    (error) => {
      assert.ok(error instanceof SettingsError);
      assert.match(
        error.message,
        /^TOLLGATE_ENCRYPTION_KEYS: each key must have at least 16 characters, such as those of/,
      );
      return true;
    },
  );
});
