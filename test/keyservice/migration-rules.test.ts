import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { migrationFaults } from "./migration-rules.ts";

const folder = new URL("../../src/keyservice/migrations/", import.meta.url);
/** Of before the first release: no program of then is in use. */
const beforeRelease = 4;

test("programs of the version before can work on a database that every migration has been carried out on", () => {
  const files = readdirSync(folder).filter((file) => Number(file.slice(0, 4)) > beforeRelease);
  assert.ok(files.length > 10);
  assert.deepEqual(
    files.flatMap((file) => migrationFaults(file, readFileSync(new URL(file, folder), "utf8"))),
    [],
  );
});

test("what older programs could not bear is a fault, with the way to do it in two releases", () => {
  const bad = [
    "ALTER TABLE keys DROP COLUMN masked;",
    "DROP VIEW key_budgets;",
    "ALTER TABLE keys RENAME COLUMN a TO b;",
    "ALTER TABLE keys ALTER COLUMN a TYPE text;",
    "ALTER TABLE keys ALTER COLUMN a SET NOT NULL;",
    "ALTER TABLE keys ADD COLUMN a text NOT NULL;",
    "ALTER TABLE keys ADD COLUMN a text DEFAULT '', ADD COLUMN b text NOT NULL;",
  ];
  for (const sql of bad) assert.equal(migrationFaults("0099_x.sql", sql).length, 1, sql);
  assert.match(migrationFaults("0099_x.sql", bad[0] ?? "")[0] ?? "", /0099_x\.sql: DROP COLUMN; leave it/);
});

test("additions, and the second half of a change that says why it is safe, are none", () => {
  const good = [
    "ALTER TABLE keys ADD COLUMN a text NOT NULL DEFAULT '';",
    "ALTER TABLE keys ADD COLUMN a text; -- DROP TABLE keys",
    "CREATE TABLE a (b text NOT NULL); ALTER TABLE keys ALTER COLUMN c DROP NOT NULL;",
    "CREATE OR REPLACE VIEW key_budgets AS SELECT 1;",
    "-- Contract: nothing since release 0.2 reads the column.\nALTER TABLE keys DROP COLUMN a;",
  ];
  for (const sql of good) assert.deepEqual(migrationFaults("0099_x.sql", sql), [], sql);
});
