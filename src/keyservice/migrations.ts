import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import type pg from "pg";
import type { Clock } from "../clock.ts";
import type { Secret } from "../secret.ts";
import { createClient } from "./postgres.ts";

/** What `migrate` needs. */
export interface MigrateParts {
  readonly databaseUrl: Secret;
  readonly clock: Clock;
  /** Where the .sql files are. Default: this package's own. */
  readonly folder?: URL;
}

interface Migration {
  readonly number: number;
  readonly file: string;
  readonly sql: string;
  readonly checksum: string;
}

const ownFolder = new URL("./migrations/", import.meta.url);
const fileName = /^(\d{4})_[a-z0-9_]+\.sql$/;
/** Any number will do, as long as nobody else uses it on this database. */
const lockKey = "4017001";
const lockPollMs = 50;

/**
 * Brings the database to this program's version: carries out the numbered .sql files that it has not seen. Several programs
 * may start at once; one does the work and the others wait. A database that is newer than the program is left as it is, so
 * that old and new programs can run side by side during an update.
 *
 * @returns the numbers of the files it carried out.
 * @throws Error if a file has changed since it was carried out, and whatever the database says.
 */
export async function migrate(parts: MigrateParts): Promise<number[]> {
  const migrations = await readMigrations(parts.folder ?? ownFolder);
  const client = createClient(parts.databaseUrl);
  // A connection that breaks fails the statement under way; without a listener it would end the process as well.
  client.on("error", () => undefined);
  await client.connect();
  try {
    await lock(client, parts.clock);
    return await carryOut(client, migrations);
  } finally {
    await client.end();
  }
}

async function readMigrations(folder: URL): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => fileName.test(file)).sort();
  return Promise.all(
    files.map(async (file) => {
      const sql = (await readFile(new URL(file, folder), "utf8")).replaceAll("\r\n", "\n");
      const checksum = createHash("sha256").update(sql).digest("hex");
      return { number: Number(file.slice(0, 4)), file, sql, checksum };
    }),
  );
}

/** Asks again and again rather than waiting in the database: a waiting statement holds a snapshot, on which an index that is built concurrently would wait in turn. */
async function lock(client: pg.Client, clock: Clock): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ mine: boolean }>("SELECT pg_try_advisory_lock($1) AS mine", [lockKey]);
    if (rows[0]?.mine === true) return;
    await new Promise<void>((resolve) => {
      clock.after(lockPollMs, resolve);
    });
  }
}

async function carryOut(client: pg.Client, migrations: readonly Migration[]): Promise<number[]> {
  await client.query(
    `CREATE TABLE IF NOT EXISTS schema_migrations (
       number integer PRIMARY KEY,
       file text NOT NULL,
       checksum text NOT NULL,
       done_at timestamptz NOT NULL DEFAULT now()
     )`,
  );
  const { rows } = await client.query<{ number: number; checksum: string }>(
    "SELECT number, checksum FROM schema_migrations",
  );
  const checksums = new Map(rows.map((row) => [row.number, row.checksum]));
  const done: number[] = [];
  for (const migration of migrations) {
    const checksum = checksums.get(migration.number);
    if (checksum === migration.checksum) continue;
    if (checksum !== undefined) {
      throw new Error(
        `${migration.file} was changed after this database was made with it. Undo that, or use another database.`,
      );
    }
    await carryOutOne(client, migration);
    done.push(migration.number);
  }
  return done;
}

async function carryOutOne(client: pg.Client, { number, file, sql, checksum }: Migration): Promise<void> {
  await client.query("BEGIN");
  try {
    await client.query(sql);
    await client.query("INSERT INTO schema_migrations (number, file, checksum) VALUES ($1, $2, $3)", [
      number,
      file,
      checksum,
    ]);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw new Error(`${file} could not be carried out.`, { cause: error });
  }
}
