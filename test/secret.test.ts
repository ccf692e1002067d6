import assert from "node:assert/strict";
import { test } from "node:test";
import { format, inspect } from "node:util";
import { errorText } from "../src/error-text.ts";
import { Secret, scrubCredentials } from "../src/secret.ts";

test("a secret shows itself only when asked to", () => {
  const secret = new Secret("sk-very-secret");
  const shown = [
    String(secret),
    `${secret}`,
    JSON.stringify({ secret }),
    inspect(secret),
    inspect({ deep: [secret] }, { depth: 9, showHidden: true }),
    format("%s %o %j", secret, secret, secret),
    Object.values(secret).join(),
  ].join("\n");
  assert.doesNotMatch(shown, /very/);
  assert.equal(secret.reveal(), "sk-very-secret");
});

test("what looks like a credential is taken out of other people's texts", () => {
  for (const text of [
    "sk-abcdef1234567890",
    "sk-ant-api03-AbCd_ef-123",
    "sk-proj-abc***********xyz",
    "gsk_abcdefghij0123456789",
    "hf_abcdefghijklmnop1234",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA-1234567890abcdefghij",
    "0123456789abcdef0123456789ABCDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
  ]) {
    assert.equal(scrubCredentials(`Key ${text}, sorry`), "Key [secret], sorry", text);
  }
  assert.equal(scrubCredentials("Authorization: Bearer abc.def.ghi"), "Authorization: Bearer [secret]");
  assert.equal(scrubCredentials("postgresql://app:hunter2@db/x"), "postgresql://app:[secret]@db/x");
});

test("ordinary words, ids of keys and models stay", () => {
  const text = "The risk-free task key_01ABCDEFGH used gpt-4o-mini at https://api.example.com:443/v1 (id 12-34)";
  assert.equal(scrubCredentials(text), text);
});

test("an error's text has its causes, and no credentials", () => {
  const error = new Error("outer", {
    cause: new Error("refused sk-abcdef1234567890", { cause: Object.assign(new Error(""), { code: "ECONNREFUSED" }) }),
  });
  assert.equal(errorText(error, false), "outer <- refused [secret] <- ECONNREFUSED");
  assert.match(errorText(error, true), /secret\.test\.ts/);
  assert.equal(errorText("thrown text", false), "thrown text");
  const circle = new Error("round");
  circle.cause = circle;
  assert.equal(errorText(circle, false).split(" <- ").length, 5);
});
