/** Who it is that sent a key. */

import { allowsOperation, mayReadMetrics, noMetricsReader, type Operation } from "../allowed-routes.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import type { KeyRecord } from "./key-records.ts";
import type { Keys } from "./keys.ts";
import { Operator, type Role, type TeamPlace } from "./operator.ts";
import type { Queryable } from "./postgres.ts";
import { digestSecret, sameSecret } from "./secrets.ts";
import { permissionsOf } from "./team-permissions.ts";

/** `created_by` of what is made with the master key. */
const masterName = "master_key";

/** The headers a key may come in, as LiteLLM ranks them. `authorization` wants "Bearer " before it. */
const keyHeaders = ["x-litellm-api-key", "authorization", "api-key", "x-api-key"] as const;
const bearer = /^bearer\s+/i;
/** Whom the holder of the master key acts for, as LiteLLM has it. */
const actorHeader = "litellm-changed-by";
const actorCharsMax = 256;
const roles: ReadonlySet<string> = new Set([
  "proxy_admin",
  "proxy_admin_viewer",
  "internal_user",
  "internal_user_viewer",
]);

type HeaderLookup = (name: string) => string | undefined;

interface TeamRow {
  team_id: string;
  is_admin: boolean;
  is_organization_admin: boolean;
  permissions: unknown;
}

/** Recognises operators. */
export class Operators {
  readonly #parts: {
    readonly books: Queryable;
    readonly keys: Pick<Keys, "find">;
    readonly masterKey: Secret;
    readonly nowMs: () => number;
  };

  /** @param parts.keys of an operator who sees all. */
  constructor(parts: {
    books: Queryable;
    keys: Pick<Keys, "find">;
    masterKey: Secret;
    nowMs: () => number;
  }) {
    this.#parts = parts;
  }

  /**
   * @param header gives a header by its lower-case name.
   * @param operation what is to be done, for the `allowed_routes` of the key.
   * @throws GatewayError `missing_api_key`, `invalid_api_key`, `blocked_key`, `expired_key`, `permission_denied`.
   */
  async identify(header: HeaderLookup, operation: Operation): Promise<Operator> {
    const secret = keyOfCaller(header);
    if (sameSecret(secret, this.#parts.masterKey)) {
      const actor = header(actorHeader)?.trim().slice(0, actorCharsMax) ?? "";
      return new Operator({ name: actor === "" ? masterName : actor, role: "proxy_admin" });
    }
    return this.#ofKey(secret, operation);
  }

  /**
   * Whether the holder of a key may read this service's metrics: the operator may, and whose key was made for it.
   *
   * @throws GatewayError as `identify`.
   */
  async checkMetricsReader(secret: string): Promise<void> {
    if (sameSecret(secret, this.#parts.masterKey)) return;
    if (!mayReadMetrics((await this.#find(secret)).allowedRoutes)) throw noMetricsReader();
  }

  async #ofKey(secret: string, operation: Operation): Promise<Operator> {
    const { books } = this.#parts;
    const key = await this.#find(secret);
    if (!allowsOperation(key.allowedRoutes, operation)) {
      throw new GatewayError(
        "permission_denied",
        `The key may not use ${operation.paths[0]}. Ask your operator to allow it.`,
      );
    }
    const { keyId, teamId } = key;
    const userId = key.userId ?? undefined;
    const user = userId === undefined ? undefined : await readUser(books, userId);
    if (userId === undefined || user === undefined) return new Operator({ name: keyId, role: "none", keyId });
    const places = await readTeams(books, userId);
    if (teamId === null) {
      const organizations = await readOrganizations(books, userId);
      return new Operator({ name: userId, role: user, keyId, userId, teams: places, organizations });
    }
    // A team's key was perhaps made by somebody else, who knows its secret: it administers at the most in that team.
    const place = places.get(teamId);
    const role =
      user === "proxy_admin_viewer" || user === "internal_user_viewer" ? "internal_user_viewer" : "internal_user";
    return new Operator({ name: userId, role, keyId, userId, teams: new Map(place && [[teamId, place]]) });
  }

  /** A key that works now. */
  async #find(secret: string): Promise<KeyRecord> {
    const { keys, nowMs } = this.#parts;
    // Only the secret itself opens anything: neither its digest nor the key's id.
    const key = await keys.find({ kind: "digest", sha256: digestSecret(secret) });
    if (key === undefined) {
      throw new GatewayError("invalid_api_key", "The key that was sent is neither the master key nor a virtual key.");
    }
    if (key.blocked) throw new GatewayError("blocked_key", "The key is blocked. Ask your operator to unblock it.");
    if (key.expiresAtMs !== null && key.expiresAtMs <= nowMs())
      throw new GatewayError("expired_key", "The key's time is over.");
    return key;
  }
}

/**
 * The key a caller sent, master or virtual.
 *
 * @throws GatewayError `missing_api_key`, also for an `authorization` that is not "Bearer ...".
 */
export function keyOfCaller(header: HeaderLookup): string {
  for (const name of keyHeaders) {
    const value = header(name)?.trim();
    if (value === undefined || value === "") continue;
    if (name !== "authorization") return value.replace(bearer, "");
    if (bearer.test(value)) return value.replace(bearer, "");
    throw new GatewayError("missing_api_key", "The `authorization` header must be `Bearer ` and the key.");
  }
  throw new GatewayError("missing_api_key", "No key was sent. Send the master key as `authorization: Bearer sk-...`.");
}

/** @returns undefined for a user the books do not know, or who is blocked. */
async function readUser(books: Queryable, userId: string): Promise<Role | undefined> {
  const [row] = await books.query<{ role: string | null; blocked: boolean }>(
    "SELECT role, blocked FROM entities WHERE scope = 'user' AND entity_id = $1 AND deleted_at IS NULL",
    [userId],
  );
  if (row === undefined || row.blocked) return undefined;
  return row.role !== null && roles.has(row.role) ? (row.role as Role) : "internal_user";
}

async function readTeams(books: Queryable, userId: string): Promise<ReadonlyMap<string, TeamPlace>> {
  const rows = await books.query<TeamRow>(
    `SELECT t.entity_id AS team_id, coalesce(m.role = 'admin', false) AS is_admin, o.user_id IS NOT NULL AS is_organization_admin,
       t.extra->'team_member_permissions' AS permissions
     FROM entities t
       LEFT JOIN members m ON m.scope = 'team' AND m.entity_id = t.entity_id AND m.user_id = $1
       LEFT JOIN members o ON o.scope = 'organization' AND o.entity_id = t.organization_id AND o.user_id = $1 AND o.role = 'org_admin'
     WHERE t.scope = 'team' AND t.deleted_at IS NULL AND (
       t.entity_id IN (SELECT entity_id FROM members WHERE scope = 'team' AND user_id = $1)
       OR t.organization_id IN (SELECT entity_id FROM members WHERE scope = 'organization' AND user_id = $1 AND role = 'org_admin'))`,
    [userId],
  );
  return new Map(
    rows.map(({ team_id, is_admin, is_organization_admin: isOrganizationAdmin, permissions }) => [
      team_id,
      {
        isAdmin: is_admin || isOrganizationAdmin,
        isOrganizationAdmin,
        permissions: new Set<string>(permissionsOf(permissions)),
      },
    ]),
  );
}

async function readOrganizations(books: Queryable, userId: string): Promise<ReadonlyMap<string, boolean>> {
  const rows = await books.query<{ entity_id: string; role: string }>(
    "SELECT entity_id, role FROM members WHERE scope = 'organization' AND user_id = $1",
    [userId],
  );
  return new Map(rows.map(({ entity_id, role }) => [entity_id, role === "org_admin"]));
}
