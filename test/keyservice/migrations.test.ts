import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { systemClock } from "../../src/clock.ts";
import { migrate } from "../../src/keyservice/migrations.ts";
import { createClient } from "../../src/keyservice/postgres.ts";
import { Secret } from "../../src/secret.ts";
import { type TestDatabase, testDatabaseUrl } from "../postgres.ts";

describe("migrations", () => {
  let database: TestDatabase;
  let directory: string;
  const databases: TestDatabase[] = [];
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tollgate-migrations-"));
  });
  beforeEach(async () => {
    database = await testDatabaseUrl();
    databases.push(database);
  });
  after(async () => {
    for (const { drop } of databases) await drop();
    await rm(directory, { recursive: true });
  });

  const run = (folder?: URL) =>
    migrate({ databaseUrl: new Secret(database.url), clock: systemClock, ...(folder === undefined ? {} : { folder }) });

  async function sql(text: string): Promise<unknown[]> {
    const client = createClient(new Secret(database.url));
    await client.connect();
    try {
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  }

  async function folderOf(files: Record<string, string>): Promise<URL> {
    const folder = await mkdtemp(join(directory, "files-"));
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    return pathToFileURL(`${folder}/`);
  }

  it("are carried out once when four programs start together", async () => {
    const done = await Promise.all([run(), run(), run(), run()]);
    const once = done.flat();
    assert.ok(once.length > 0 && new Set(once).size === once.length);
    assert.equal(done.filter((numbers) => numbers.length > 0).length, 1);
    assert.deepEqual(await run(), []);
    assert.deepEqual(await sql("SELECT key_id FROM keys"), [{ key_id: "key_master" }]);
  });

  it("are carried out in order, each whole or not at all, and go on after the fault is mended", async () => {
    const good = {
      "0001_a.sql": "CREATE TABLE a (n int);",
      "0002_b.sql": "CREATE TABLE b (n int); INSERT INTO a VALUES (1);",
    };
    const bad = await folderOf({
      ...good,
      "0003_c.sql": "INSERT INTO b VALUES (1); SELECT nonsense;",
      "notes.txt": "x",
    });
    await assert.rejects(run(bad), /0003_c\.sql could not be carried out/);
    assert.deepEqual(await sql("SELECT (SELECT count(*)::int FROM a) AS a, (SELECT count(*)::int FROM b) AS b"), [
      { a: 1, b: 0 },
    ]);
    assert.deepEqual(await run(await folderOf({ ...good, "0003_c.sql": "INSERT INTO b VALUES (1);" })), [3]);
  });

  it("are not silently different from what was carried out", async () => {
    await run(await folderOf({ "0001_a.sql": "CREATE TABLE a (n int);" }));
    await run(await folderOf({ "0001_a.sql": "CREATE TABLE a (n int);" }));
    const changed = await folderOf({ "0001_a.sql": "CREATE TABLE a (n bigint);" });
    await assert.rejects(run(changed), /0001_a\.sql was changed/);
  });

  it("leave a database alone that a newer program has made", async () => {
    await run(await folderOf({ "0001_a.sql": "CREATE TABLE a (n int);", "0002_b.sql": "CREATE TABLE b (n int);" }));
    assert.deepEqual(await run(await folderOf({ "0001_a.sql": "CREATE TABLE a (n int);" })), []);
  });
});
