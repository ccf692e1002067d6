/** What a sidecar may ask about: the keys of its teams, in its own pod's name. */

import { GatewayError } from "../errors.ts";
import { arrayText } from "./array-text.ts";
import type { Queryable } from "./postgres.ts";
import type { CallingSidecar } from "./sidecar-access.ts";

/** What a lease is asked for, or a record is charged to. */
interface Charge {
  readonly keyId: string;
  readonly budgetIds: readonly string[];
  /** Undefined: there was none. */
  readonly leaseId: string | undefined;
}

/** @throws GatewayError `permission_denied` for another pod's name: a token that was carried elsewhere lends nothing there. */
export function checkPod({ name, podNames }: CallingSidecar, podId: string): void {
  if (podNames === undefined || podNames.includes(podId)) return;
  const message = `The token of ${name} is bound to pod ${podNames[0]}, and the sidecar calls itself "${podId}". Set TOLLGATE_POD_ID to the pod's name.`;
  throw new GatewayError("permission_denied", message);
}

/** Whether a key of this team, or of none, is the sidecar's to serve. */
export function serves({ teams }: CallingSidecar, teamId: string | undefined): boolean {
  return teams === "all" || (teamId !== undefined && teams.has(teamId));
}

/**
 * The charges that are not the sidecar's to make: of keys of other teams, or to budgets of others than the key itself and what calls
 * name. A key that has left the team may still be charged by the pod that has a lease on it.
 */
const strangeSql = `
  SELECT c.key_id FROM unnest($1::text[], $2::uuid[], $3::text[]) AS c (key_id, lease_id, budget_ids)
    LEFT JOIN keys k USING (key_id)
  WHERE NOT (coalesce(k.team_id, '') = ANY ($4::text[])
      OR EXISTS (SELECT FROM leases l WHERE l.lease_id = c.lease_id AND l.key_id = c.key_id AND l.pod_id = $5))
    OR EXISTS (SELECT FROM effective_budgets b WHERE b.budget_id = ANY (c.budget_ids::text[])
      AND b.scope NOT IN ('end_user', 'tag', 'provider', 'deployment', 'configured_tag')
      AND NOT (b.scope = 'model' AND b.scope_id = c.key_id)
      AND NOT EXISTS (SELECT FROM key_budgets own WHERE own.key_id = c.key_id AND own.budget_id = b.budget_id))
  LIMIT 1`;

/** @throws GatewayError `permission_denied` if one of the charges is not the sidecar's to make; none is made then. */
export async function checkCharges(
  books: Queryable,
  { name, teams }: CallingSidecar,
  podId: string,
  charges: readonly Charge[],
): Promise<void> {
  if (teams === "all" || charges.length === 0) return;
  const [strange] = await books.query<{ key_id: string }>(strangeSql, [
    charges.map(({ keyId }) => keyId),
    charges.map(({ leaseId }) => leaseId ?? null),
    charges.map(({ budgetIds }) => arrayText(budgetIds)),
    [...teams],
    podId,
  ]);
  if (strange === undefined) return;
  throw new GatewayError("permission_denied", `Key ${strange.key_id} is not of a team that ${name} serves.`);
}
