import type { Queryable } from "./postgres.ts";

/** The channel on which the database tells every replica that the books' version has grown. */
export const changesChannel = "tollgate_changes";

/** What a change is about: a key, something keys belong to or calls name, models and credentials, or possibly everything. */
export interface Changed {
  readonly scope: "key" | "team" | "user" | "organization" | "end_user" | "tag" | "model" | "all";
  /** "" for all, and for credentials. */
  readonly id: string;
}

/** Sidecars forget whatever they know. */
export const everything: Changed = { scope: "all", id: "" };

/**
 * Notes in a transaction that something has changed, so that every sidecar forgets its copy once the transaction commits.
 *
 * Call it before any other lock is taken: it takes the one row that puts all such transactions into a line, and that line
 * is what makes versions appear in their order.
 *
 * @returns the version the change has, for the `version` of the row that is changed.
 */
export async function bumpRevision(client: Queryable, { scope, id }: Changed): Promise<bigint> {
  const [row] = await client.query<{ version: bigint }>(
    `WITH bumped AS (UPDATE revision SET version = version + 1 RETURNING version),
          logged AS (INSERT INTO changes (version, scope, entity_id) SELECT version, $1, $2 FROM bumped)
     SELECT version, pg_notify($3, version::text) FROM bumped`,
    [scope, id, changesChannel],
  );
  if (row === undefined) throw new Error("The table revision has lost its row.");
  return row.version;
}
