import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ResponseIds } from "../src/response-ids.ts";
import { Secret } from "../src/secret.ts";

const ids = new ResponseIds({ secret: new Secret("of all pods") });
const stored = { deploymentId: "d1", responseId: "resp_provider", tokensMax: 123 };
const owner = { keyId: "k1", userId: undefined, teamId: "red" };

test("a name holds what it stands for, on every pod, and is the same each time", () => {
  const name = ids.nameFor(stored, owner);
  assert.match(name, /^resp_[A-Za-z0-9_-]+$/);
  assert.deepEqual(new ResponseIds({ secret: new Secret("of all pods") }).find(name, owner), stored);
  assert.equal(ids.nameFor(stored, owner), name);
  assert.deepEqual(ids.find(ids.nameFor({ ...stored, tokensMax: Number.POSITIVE_INFINITY }, owner), owner), {
    ...stored,
    tokensMax: Number.POSITIVE_INFINITY,
  });
});

test("it belongs to the team, or else to the user, or else to the key", () => {
  const name = ids.nameFor(stored, owner);
  assert.deepEqual(ids.find(name, { keyId: "k2", userId: "u", teamId: "red" }), stored);
  const strangers = [
    { keyId: "k1", userId: undefined, teamId: "blue" },
    { keyId: "k1", userId: "red", teamId: undefined },
    { keyId: "red", userId: undefined, teamId: undefined },
  ];
  for (const stranger of strangers) assert.equal(ids.find(name, stranger), undefined);
  const ofUser = ids.nameFor(stored, { keyId: "k1", userId: "u", teamId: undefined });
  assert.deepEqual(ids.find(ofUser, { keyId: "k2", userId: "u", teamId: undefined }), stored);
  assert.equal(ids.find(ofUser, { keyId: "k1", userId: undefined, teamId: undefined }), undefined);
});

test("whatever else is tried is no name: another secret's, a changed one, any text", () => {
  const name = ids.nameFor(stored, owner);
  assert.equal(new ResponseIds({ secret: new Secret("another") }).find(name, owner), undefined);
  for (const ending of ["A", "=", "!", "AA"]) assert.equal(ids.find(name + ending, owner), undefined);
  const bytes = Buffer.from(name.slice(5), "base64url");
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.equal(ids.find(`resp_${changed.toString("base64url")}`, owner), undefined);
    assert.equal(ids.find(`resp_${bytes.subarray(0, at).toString("base64url")}`, owner), undefined);
  }
  fc.assert(
    fc.property(
      fc.string(),
      (text) => ids.find(`resp_${text}`, owner) === undefined && ids.find(text, owner) === undefined,
    ),
  );
});
