import { randomBytes } from "node:crypto";
import pg from "pg";

/** A database of a test's own, empty. */
export interface TestDatabase {
  readonly url: string;
  /** Removes it, cutting what is still connected. */
  drop(): Promise<void>;
}

/** Makes a fresh, empty database in the cluster of the test run. */
export async function testDatabaseUrl(): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString("hex")}`;
  await administer(`CREATE DATABASE ${name}`);
  const url = new URL(clusterUrl());
  url.pathname = name;
  return { url: url.href, drop: () => administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

function clusterUrl(): string {
  const url = process.env.TOLLGATE_TEST_POSTGRES_URL;
  if (url === undefined)
    throw new Error("No test database: run tests with `npm test`, or `npm test -- test/some.test.ts`.");
  return url;
}

async function administer(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: clusterUrl() });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
