/** The gRPC face of teams, users, organizations, customers, tags and shared budgets. */

import { randomUUID } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import type {
  BudgetAdminService,
  EntityAdminService,
  UpdateEntityRequest,
} from "../gen/tollgate/admin/v1/entities_pb.ts";
import { formatUsd } from "../money.ts";
import { type AdminParts, newKeyOf } from "./admin.ts";
import { messageOf, nanosOf, refusalOf } from "./admin-messages.ts";
import { eachForItself, type Outcome } from "./each-for-itself.ts";
import { createEntity } from "./entity-creation.ts";
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
import type { EntityRecord } from "./entity-records.ts";
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
    async createEntity({ entity, requestId, members, key }) {
      if (entity === undefined) throw invalid("entity", "is missing.");
      if (requestId !== "" && !uuidForm.test(requestId)) throw invalid("request_id", "must be a UUID.");
      const kind = kindOf(entity.kind);
      const made = await createEntity(parts, kind, {
        ...{ id: newIdFor(kind, entity.id, requestId), change: entityChangeOf(entity, []), names },
        requestId: requestId || undefined,
        members: members.map(({ id, role }) => ({ id, role: role || undefined })),
        key: key && newKeyOf(key, parts),
      });
      return {
        entity: entityMessageOf(made.entity),
        ...(made.key && { key: messageOf(made.key.key), secret: made.key.secret ?? "" }),
      };
    },
    async getEntity({ kind, id }) {
      return { entity: entityMessageOf(await entities.get(kindOf(kind), id)) };
    },
    async updateEntity({ entity, updateMask }) {
      const { kind, wish } = updateOf({ entity, updateMask });
      return { entity: entityMessageOf(await entities.update(kind, wish)) };
    },
    async batchUpdateEntities({ requests, all }) {
      if (all === undefined) {
        const outcomes = await eachForItself(requests, async (request) => {
          const { kind, wish } = updateOf(request);
          return entities.update(kind, wish);
        });
        return { results: outcomes.map((outcome, index) => updatedOf(requests[index]?.entity?.id ?? "", outcome)) };
      }
      if (requests.length > 0) throw invalid("all", "cannot be sent together with `requests`.");
      const { kind, wish } = updateOf({ ...all, entity: all.entity && { ...all.entity, id: "*" } });
      if (wish.etag !== undefined) throw invalid("all.entity.etag", "cannot be one for all.");
      const updated = await entities.updateAll(kind, wish);
      return { results: updated.map(({ id, outcome }) => updatedOf(id, outcome)) };
    },
    async changeEntityModels({ kind, id, add, remove }) {
      return { entity: entityMessageOf(await entities.changeModels(kindOf(kind), id, { add, remove }, names)) };
    },
    async deleteEntity({ kind, id }) {
      await entities.delete(kindOf(kind), id);
      return {};
    },
    async listEntities({ kind, pageSize, pageToken, organizationId, memberId, joinable }) {
      const limit = pageSizeOf(pageSize);
      const asked = [String(kind), organizationId, memberId, String(joinable)];
      if (joinable && (kindOf(kind) !== "team" || organizationId !== "" || memberId !== "")) {
        throw invalid("joinable", "is for teams, and goes with no other filter.");
      }
      const [offset = "0"] = readPageToken(pageToken, asked, [offsetForm]) ?? [];
      const filter = { organizationId: organizationId || undefined, memberId: memberId || undefined };
      const page = { limit, offset: Number(offset) };
      const found = await (joinable ? entities.listJoinable(page) : entities.list(kindOf(kind), filter, page));
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
      await members.add(added, names);
      const found = await Promise.all(added.map(({ membership }) => members.get(membership)));
      return { members: found.map(memberMessageOf) };
    },
    async updateMember({ member, updateMask }) {
      if (member === undefined) throw invalid("member", "is missing.");
      const { entityId, userId } = member;
      const membership = { scope: memberScopeOf(member.kind), entityId, userId };
      await members.update(membership, memberChangeOf(member, updateMask?.paths ?? []), names);
      return { member: memberMessageOf(await members.get(membership)) };
    },
    async resetMemberBudget({ teamId, userId, resetToUsd }) {
      const name = "reset_to_usd";
      const resetTo = resetToUsd === "" ? 0n : nanosOf(resetToUsd, name);
      const { member, previous } = await members.resetSpend(teamId, userId, { resetTo, name });
      return { member: memberMessageOf(member), previousSpentUsd: formatUsd(previous) };
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
    async createBudget({ budget, requestId }) {
      if (budget === undefined) throw invalid("budget", "is missing.");
      if (requestId !== "" && !uuidForm.test(requestId)) throw invalid("request_id", "must be a UUID.");
      const made = await templates.create(budget.id || randomUUID(), templateChangeOf(budget, []), {
        names,
        requestId: requestId || undefined,
      });
      return { budget: templateMessageOf(made) };
    },
    async updateBudget({ budget, updateMask }) {
      if (budget === undefined || budget.id === "") throw invalid("budget.id", "must name the budget.");
      const change = templateChangeOf(budget, updateMask?.paths ?? []);
      return {
        budget: templateMessageOf(await templates.update(budget.id, change, { names, etag: budget.etag || undefined })),
      };
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

/** @throws GatewayError `invalid_request`. */
function updateOf({ entity, updateMask }: Pick<UpdateEntityRequest, "entity" | "updateMask">) {
  if (entity === undefined || entity.id === "") throw invalid("entity.id", "must name the entity.");
  const change = entityChangeOf(entity, updateMask?.paths ?? []);
  return {
    kind: kindOf(entity.kind),
    wish: { id: entity.id, change, names: entityRpcNames, etag: entity.etag || undefined },
  };
}

function updatedOf(id: string, outcome: Outcome<EntityRecord>) {
  if ("refusal" in outcome) return { id, refusal: refusalOf(outcome.refusal) };
  return { id, entity: entityMessageOf(outcome.done) };
}
