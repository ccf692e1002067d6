/** Puts what is encrypted under an older key under the newest one. */

import type { Clock, Random } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { credentialOwner } from "./credentials.ts";
import { rotationOwner } from "./key-rotations.ts";
import { migrate } from "./migrations.ts";
import { modelOwner } from "./model-records.ts";
import { Postgres, type Queryable } from "./postgres.ts";
import { Vault } from "./vault.ts";

/** What was found. */
export interface Reencrypted {
  /** How many rows are under the newest key now that were not before. */
  readonly changed: number;
  /** What does not open with any key that is known; it is left as it is. */
  readonly unreadable: readonly string[];
  /** Not secret; rows name it. */
  readonly newestKeyId: string;
}

/** One table with something encrypted. */
interface Table {
  readonly word: string;
  /** $1: the newest key. */
  readonly due: string;
  /** $1: the row, $2: the newest key. */
  readonly lock: string;
  /** $1: the row, $2, $3: what is encrypted anew, and its key. */
  readonly write: string;
  owner(id: string): string;
}

interface Row {
  name: string;
  bytes: Buffer;
  key_id: string;
}

const tables: readonly Table[] = [
  {
    word: "model",
    due: "SELECT model_id AS id FROM models WHERE encryption_key_id <> $1 ORDER BY model_id",
    lock: `SELECT model_id AS name, secret_params AS bytes, encryption_key_id AS key_id FROM models
           WHERE model_id = $1 AND encryption_key_id <> $2 FOR UPDATE`,
    write: "UPDATE models SET secret_params = $2, encryption_key_id = $3 WHERE model_id = $1",
    owner: modelOwner,
  },
  {
    word: "credential",
    due: "SELECT credential_id::text AS id FROM credentials WHERE encryption_key_id <> $1 ORDER BY credential_id",
    lock: `SELECT credential_name AS name, secret_values AS bytes, encryption_key_id AS key_id FROM credentials
           WHERE credential_id = $1::uuid AND encryption_key_id <> $2 FOR UPDATE`,
    write: "UPDATE credentials SET secret_values = $2, encryption_key_id = $3 WHERE credential_id = $1::uuid",
    owner: credentialOwner,
  },
  {
    word: "key rotation",
    due: "SELECT rotation_id::text AS id FROM key_rotations WHERE encryption_key_id <> $1 ORDER BY rotation_id",
    lock: `SELECT key_id AS name, secret_values AS bytes, encryption_key_id AS key_id FROM key_rotations
           WHERE rotation_id = $1::uuid AND encryption_key_id <> $2 FOR UPDATE`,
    write: "UPDATE key_rotations SET secret_values = $2, encryption_key_id = $3 WHERE rotation_id = $1::uuid",
    owner: rotationOwner,
  },
];

/**
 * Goes through everything encrypted, a row a transaction: it may be interrupted and repeated at any time, and run while others work
 * on the database. What the secrets say does not change, so nobody has to hear of it.
 *
 * @param parts.encryptionKeys the newest first.
 */
export async function reencryptDatabase(parts: {
  readonly databaseUrl: Secret;
  readonly encryptionKeys: readonly Secret[];
  readonly clock: Clock;
  readonly random: Random;
}): Promise<Reencrypted> {
  await migrate(parts);
  const postgres = new Postgres({ ...parts, onConnectionLost: () => {} });
  try {
    return await reencrypt(postgres, new Vault(parts.encryptionKeys));
  } finally {
    await postgres.close();
  }
}

async function reencrypt(postgres: Postgres, vault: Vault): Promise<Reencrypted> {
  let changed = 0;
  const unreadable: string[] = [];
  for (const table of tables) {
    for (const { id } of await postgres.query<{ id: string }>(table.due, [vault.newestKeyId])) {
      const done = await postgres.transaction((client) => reencryptRow(client, { table, vault, id }));
      if (done === "changed") changed += 1;
      else if (done !== "gone") unreadable.push(`${table.word} ${done.unreadable}`);
    }
  }
  return { changed, unreadable, newestKeyId: vault.newestKeyId };
}

async function reencryptRow(
  client: Queryable,
  { table, vault, id }: { readonly table: Table; readonly vault: Vault; readonly id: string },
): Promise<"changed" | "gone" | { readonly unreadable: string }> {
  const [row] = await client.query<Row>(table.lock, [id, vault.newestKeyId]);
  // Deleted or written anew meanwhile.
  if (row === undefined) return "gone";
  const owner = table.owner(id);
  try {
    const sealed = vault.seal(vault.open({ bytes: row.bytes, keyId: row.key_id }, owner), owner);
    await client.query(table.write, [id, sealed.bytes, sealed.keyId]);
    return "changed";
  } catch (error) {
    if (error instanceof GatewayError && error.code === "secrets_unreadable") return { unreadable: row.name };
    throw error;
  }
}
