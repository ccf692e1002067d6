/** The gRPC face of teams, users, organizations, customers, tags and shared budgets. */

import { randomUUID } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import { GatewayError } from "../errors.ts";
import type { BudgetAdminService, EntityAdminService } from "../gen/tollgate/admin/v1/entities_pb.ts";
import type { AdminParts } from "./admin.ts";
import type { EntityKind } from "./entity-fields.ts";
import {
  entityChangeOf,
  entityMessageOf,
  entityRpcNames,
  kindOf,
  memberChangeOf,
  memberMessageOf,
  memberScopeOf,
  templateChangeOf,
  templateMessageOf,
} from "./entity-messages.ts";
import { invalid } from "./key-fields.ts";
import { pageSizeOf, readPageToken, writePageToken } from "./page-token.ts";
import { uuidForm } from "./spend-reader.ts";

const offsetForm = /^\d{1,9}$/;

/** Makes the implementation of EntityAdminService. */
export function entityAdmin(parts: AdminParts): ServiceImpl<typeof EntityAdminService> {
  const { entities, members } = parts;
  const names = entityRpcNames;
  const setBlocked = async (kind: EntityKind, id: string, blocked: boolean) => ({
    entity: entityMessageOf(await entities.update(kind, { id, change: { blocked }, names })),
  });
  return {
    async createEntity({ entity, requestId }) {
      if (entity === undefined) throw invalid("entity", "is missing.");
      if (requestId !== "" && !uuidForm.test(requestId)) throw invalid("request_id", "must be a UUID.");
      const kind = kindOf(entity.kind);
      const wish = {
        change: entityChangeOf(entity, []),
        names,
        requestId: requestId || undefined,
      };
      return {
        entity: entityMessageOf(await entities.create(kind, { ...wish, id: newIdFor(kind, entity.id, requestId) })),
      };
    },
    async getEntity({ kind, id }) {
      return { entity: entityMessageOf(await entities.get(kindOf(kind), id)) };
    },
    async updateEntity({ entity, updateMask }) {
      if (entity === undefined || entity.id === "") throw invalid("entity.id", "must name the entity.");
      const change = entityChangeOf(entity, updateMask?.paths ?? []);
      const wish = { id: entity.id, change, names, etag: entity.etag || undefined };
      return { entity: entityMessageOf(await entities.update(kindOf(entity.kind), wish)) };
    },
    async deleteEntity({ kind, id }) {
      await entities.delete(kindOf(kind), id);
      return {};
    },
    async listEntities({ kind, pageSize, pageToken, organizationId, memberId }) {
      const limit = pageSizeOf(pageSize);
      const asked = [String(kind), organizationId, memberId];
      const [offset = "0"] = readPageToken(pageToken, asked, [offsetForm]) ?? [];
      const filter = { organizationId: organizationId || undefined, memberId: memberId || undefined };
      const found = await entities.list(kindOf(kind), filter, { limit, offset: Number(offset) });
      const next = Number(offset) + found.entities.length;
      return {
        entities: found.entities.map(entityMessageOf),
        nextPageToken: next < found.total ? writePageToken(asked, [String(next)]) : "",
        totalCount: BigInt(found.total),
      };
    },
    async blockEntity({ kind, id }) {
      return setBlocked(kindOf(kind), id, true);
    },
    async unblockEntity({ kind, id }) {
      return setBlocked(kindOf(kind), id, false);
    },
    async addMembers(request) {
      const added = request.members.map((member) => {
        const { entityId, userId } = member;
        const membership = { scope: memberScopeOf(member.kind), entityId, userId };
        return { membership, fields: memberChangeOf(member, []) };
      });
      for (const { membership } of added) await entities.get(membership.scope, membership.entityId);
      await members.add(added, names);
      const found = await Promise.all(added.map(({ membership }) => memberOf(parts, membership)));
      return { members: found.map(memberMessageOf) };
    },
    async updateMember({ member, updateMask }) {
      if (member === undefined) throw invalid("member", "is missing.");
      const { entityId, userId } = member;
      const membership = { scope: memberScopeOf(member.kind), entityId, userId };
      await members.update(membership, memberChangeOf(member, updateMask?.paths ?? []), names);
      return { member: memberMessageOf(await memberOf(parts, membership)) };
    },
    async removeMember({ kind, entityId, userId }) {
      await members.remove({ scope: memberScopeOf(kind), entityId, userId });
      return {};
    },
    async listMembers({ kind, entityId, userId }) {
      const filter = { ...(entityId && { entityIds: [entityId] }), ...(userId && { userId }) };
      return { members: (await members.list(memberScopeOf(kind), filter)).map(memberMessageOf) };
    },
  };
}

/** Makes the implementation of BudgetAdminService. */
export function budgetAdmin({ templates }: AdminParts): ServiceImpl<typeof BudgetAdminService> {
  const names = { ...entityRpcNames, budgetId: "budget.id" };
  return {
    async createBudget({ budget }) {
      if (budget === undefined) throw invalid("budget", "is missing.");
      const made = await templates.create(budget.id || randomUUID(), templateChangeOf(budget, []), names);
      return { budget: templateMessageOf(made) };
    },
    async updateBudget({ budget, updateMask }) {
      if (budget === undefined || budget.id === "") throw invalid("budget.id", "must name the budget.");
      const change = templateChangeOf(budget, updateMask?.paths ?? []);
      return { budget: templateMessageOf(await templates.update(budget.id, change, names)) };
    },
    async deleteBudget({ id }) {
      await templates.delete(id);
      return {};
    },
    async listBudgets({ ids }) {
      return { budgets: (await templates.list(ids.length === 0 ? undefined : ids)).map(templateMessageOf) };
    },
  };
}

/** A repeated request makes the same id of its own id. */
function newIdFor(kind: EntityKind, id: string, requestId: string): string {
  if (id !== "") return id;
  if (kind === "end_user" || kind === "tag") throw invalid("entity.id", "must be what calls name.");
  return requestId === "" ? randomUUID() : requestId.toLowerCase();
}

async function memberOf(
  { members }: AdminParts,
  {
    scope,
    entityId,
    userId,
  }: { readonly scope: "team" | "organization"; readonly entityId: string; readonly userId: string },
) {
  const [member] = await members.list(scope, { entityIds: [entityId], userId });
  if (member === undefined) throw new GatewayError("not_found", "The membership has just been ended.");
  return member;
}
