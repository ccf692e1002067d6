import type { Queryable } from "./postgres.ts";

/** The channel on which the database tells every replica that the books' version has grown. */
export const changesChannel = "tollgate_changes";

/**
 * Notes in a transaction that a key has changed, so that every sidecar forgets its copy once the transaction commits.
 *
 * Call it before any other lock is taken: it takes the one row that puts all such transactions into a line, and that line
 * is what makes versions appear in their order.
 *
 * @returns the version the change has, for `keys.version`.
 */
export async function bumpRevision(client: Queryable, keyId: string): Promise<bigint> {
  const [row] = await client.query<{ version: bigint }>(
    `WITH bumped AS (UPDATE revision SET version = version + 1 RETURNING version),
          logged AS (INSERT INTO changes (version, key_id) SELECT version, $1 FROM bumped)
     SELECT version, pg_notify($2, version::text) FROM bumped`,
    [keyId, changesChannel],
  );
  if (row === undefined) throw new Error("The table revision has lost its row.");
  return row.version;
}
