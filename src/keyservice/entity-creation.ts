import type { AdminParts } from "./admin.ts";
import type { EntityWish } from "./entities.ts";
import type { EntityKind } from "./entity-fields.ts";
import type { EntityRecord } from "./entity-records.ts";
import { invalid } from "./key-fields.ts";
import type { KeyRecord } from "./key-records.ts";
import type { NewKey } from "./key-requests.ts";
import type { Membership } from "./members.ts";

/** An entity to be made, and what is to be made with it. */
export interface EntityCreation extends EntityWish {
  /** Of a team or an organization, its members; of a user, the teams they are in. */
  readonly members: readonly { readonly id: string; readonly role?: string | undefined }[];
  /** A user's own key; whose it is need not be said. */
  readonly key?: Omit<NewKey, "requestId"> | undefined;
}

/**
 * Makes an entity with its memberships and its key, or nothing of it.
 *
 * @returns the key's secret undefined if the request is a repetition.
 * @throws GatewayError as Entities.create, Members.add and Keys.create.
 */
export async function createEntity(
  parts: AdminParts,
  kind: EntityKind,
  { members, key, ...wish }: EntityCreation,
): Promise<{
  readonly entity: EntityRecord;
  readonly key: { readonly key: KeyRecord; readonly secret: string | undefined } | undefined;
}> {
  if (key !== undefined && kind !== "user") throw invalid("key", "can be made with a user only.");
  return parts.together(async (joined) => {
    const entity = await joined.entities.create(kind, wish);
    const added = members.map(({ id, role }) => ({
      membership: membershipOf(kind, entity.id, id),
      fields: role === undefined ? {} : { role },
    }));
    if (added.length > 0) await joined.members.add(added, wish.names);
    if (key === undefined) return { entity, key: undefined };
    const change = { ...key.change, userId: entity.id };
    return { entity, key: await joined.keys.create({ ...key, change, requestId: wish.requestId }) };
  });
}

function membershipOf(kind: EntityKind, id: string, other: string): Membership {
  if (kind === "user") return { scope: "team", entityId: other, userId: id };
  if (kind === "team" || kind === "organization") return { scope: kind, entityId: id, userId: other };
  throw invalid("members", "can be made with a team, an organization or a user only.");
}
