import type { Nanos } from "../money.ts";
import type { Queryable } from "./postgres.ts";
import { hashSecret, type Pepper } from "./secrets.ts";

/** What a key may do, as one snapshot of the books has it. Limits undefined: none. */
export interface Grant {
  readonly keyId: string;
  readonly alias: string | undefined;
  readonly userId: string | undefined;
  readonly teamId: string | undefined;
  readonly models: readonly string[];
  readonly aliases: Readonly<Record<string, string>>;
  readonly rpmLimit: bigint | undefined;
  readonly tpmLimit: bigint | undefined;
  readonly maxParallelRequests: bigint | undefined;
  readonly budgets: readonly GrantedBudget[];
  readonly expiresAt: Date | undefined;
  readonly blocked: boolean;
  readonly tags: readonly string[];
  /** The version of the books. */
  readonly version: bigint;
}

/** A budget the key's calls are charged to. `max` undefined: no limit. */
export interface GrantedBudget {
  readonly budgetId: string;
  readonly scope: string;
  readonly scopeId: string;
  readonly max: Nanos | undefined;
  /** Its period, "1d" for instance; null: it never resets. */
  readonly duration: string | null;
}

interface GrantRow {
  key_id: string;
  alias: string | null;
  user_id: string | null;
  team_id: string | null;
  models: string[];
  aliases: Record<string, unknown>;
  rpm_limit: bigint | null;
  tpm_limit: bigint | null;
  max_parallel_requests: bigint | null;
  expires_at: Date | null;
  blocked: boolean;
  tags: string[];
  books_version: bigint;
  budget_id: string;
  scope: string;
  scope_id: string;
  max_nanos: Nanos | null;
  duration: string | null;
}

/**
 * Looks a key up by the digest its caller's sidecar sent.
 *
 * @returns undefined if there is no such key. Blocked and expired ones are found.
 */
export async function findGrant(books: Queryable, sha256: Buffer, pepper: Pepper): Promise<Grant | undefined> {
  // One statement is one snapshot: the version belongs to exactly these rows.
  const rows = await books.query<GrantRow>(
    `SELECT k.key_id, k.alias, k.user_id, k.team_id, k.models, k.aliases, k.rpm_limit, k.tpm_limit,
       k.max_parallel_requests, k.expires_at, k.blocked, k.tags, r.version AS books_version,
       b.budget_id, b.scope, b.scope_id, b.max_nanos, b.duration
     FROM keys k JOIN key_budgets b USING (key_id) CROSS JOIN revision r
     WHERE k.secret_hmac = $1 AND k.pepper_id = $2 AND k.deleted_at IS NULL AND b.removed_at IS NULL
     ORDER BY b.budget_id`,
    [hashSecret(sha256, pepper), pepper.id],
  );
  const [row] = rows;
  if (row === undefined) return undefined;
  return {
    keyId: row.key_id,
    alias: row.alias ?? undefined,
    userId: row.user_id ?? undefined,
    teamId: row.team_id ?? undefined,
    models: row.models,
    aliases: Object.fromEntries(Object.entries(row.aliases).map(([name, model]) => [name, String(model)])),
    rpmLimit: row.rpm_limit ?? undefined,
    tpmLimit: row.tpm_limit ?? undefined,
    maxParallelRequests: row.max_parallel_requests ?? undefined,
    budgets: rows.map(({ budget_id, scope, scope_id, max_nanos, duration }) => {
      return { budgetId: budget_id, scope, scopeId: scope_id, max: max_nanos ?? undefined, duration };
    }),
    expiresAt: row.expires_at ?? undefined,
    blocked: row.blocked,
    tags: row.tags,
    version: row.books_version,
  };
}
