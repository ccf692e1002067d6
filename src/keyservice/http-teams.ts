/** LiteLLM's /team/* endpoints. */

import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Json, JsonObject } from "../completion.ts";
import { usdNumber } from "../money.ts";
import type { AdminParts } from "./admin.ts";
import { createEntity } from "./entity-creation.ts";
import { type EntityRecord, entityEtag } from "./entity-records.ts";
import { namesOf, readEntity } from "./http-entity-body.ts";
import { membershipRow, teamRow } from "./http-entity-rows.ts";
import { bodyFields, readBody, resetSpendBody } from "./http-key-body.ts";
import { isoOf, rowWithToken } from "./http-key-rows.ts";
import { wholeNumber } from "./http-query.ts";
import { type ManagementRoutes, noteEtag, type RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import type { MemberFields } from "./members.ts";
import { allPermissions, teamPermissions, withPermissions } from "./team-permissions.ts";

const body = { id: "team_id", alias: "team_alias", aliases: "model_aliases" } as const;
const names = namesOf(body);
/** The most keys a team's answer lists. */
const keysMax = 1_000;
const teamsMax = 1_000;

const member = z
  .looseObject({
    user_id: z.string().min(1).nullish(),
    user_email: z.string().min(1).nullish(),
    role: z.enum(["admin", "user"], 'must be "admin" or "user".').nullish(),
  })
  .refine(
    ({ user_id, user_email }) => typeof (user_id ?? user_email) === "string",
    "must have a `user_id` or `user_email`.",
  );
const budgetInTeam = {
  max_budget_in_team: bodyFields.max_budget,
  budget_duration: bodyFields.budget_duration,
  budget_id: bodyFields.budget_id,
  tpm_limit: bodyFields.tpm_limit,
  rpm_limit: bodyFields.rpm_limit,
} as const;
const team = z.string("must be the team's id.").min(1, "must not be empty.");
const memberAdd = z.looseObject({ ...budgetInTeam, team_id: team, member: z.union([member, z.array(member)]) });
const bulkAdd = z.looseObject({ ...budgetInTeam, team_id: team, members: z.array(member).max(1_000) });
const memberUpdate = z.looseObject({
  ...budgetInTeam,
  team_id: team,
  user_id: z.string().nullish(),
  user_email: z.string().nullish(),
  role: z.enum(["admin", "user"], 'must be "admin" or "user".').nullish(),
});
const teamsDelete = z.looseObject({ team_ids: z.array(team, "must be a list of ids.").min(1).max(1_000) });
const teamBlock = z.looseObject({ team_id: team });
const teamModels = z.looseObject({ team_id: team, models: z.array(z.string(), "must be a list of models.") });

const userIds = z.array(z.string().min(1), "must be a list of users' ids.").max(1_000).nullish();
const teamMembers = z.looseObject({
  members_with_roles: z.array(member).max(1_000).nullish(),
  members: userIds,
  admins: userIds,
});
const permissions = z.looseObject({
  team_id: team,
  team_member_permissions: z.array(z.string(), "must be a list of paths."),
});

/** The routes, by path. */
export const teamRoutes: ManagementRoutes = {
  "/team/new": { method: "POST", access: "scoped", heeds: "idempotency-key", answer: create },
  "/team/update": { method: "POST", access: "scoped", heeds: "if-match", answer: update },
  "/team/delete": { method: "POST", access: "scoped", answer: deleteTeams },
  "/team/info": { method: "GET", access: "scoped", answer: info },
  "/team/list": {
    method: "GET",
    access: "scoped",
    answer: async (parts, request) => (await page(parts, request)).teams,
  },
  "/v2/team/list": { method: "GET", access: "scoped", answer: page },
  "/team/block": { method: "POST", access: "scoped", answer: (parts, request) => setBlocked(parts, request, true) },
  "/team/unblock": { method: "POST", access: "scoped", answer: (parts, request) => setBlocked(parts, request, false) },
  "/team/member_add": { method: "POST", access: "scoped", answer: addMembers },
  "/team/bulk_member_add": { method: "POST", access: "scoped", answer: addMembers },
  "/team/member_update": { method: "POST", access: "scoped", answer: updateMember },
  "/team/member_delete": { method: "POST", access: "scoped", answer: removeMember },
  "/team/{team_id}/member/{user_id}/reset_spend": { method: "POST", access: "scoped", answer: resetMember },
  "/team/available": { method: "GET", access: "scoped", answer: available },
  "/team/permissions_list": { method: "GET", access: "scoped", answer: listPermissions },
  "/team/permissions_update": { method: "POST", access: "scoped", answer: updatePermissions },
  "/team/model/add": {
    method: "POST",
    access: "scoped",
    answer: (parts, request) => changeModels(parts, request, true),
  },
  "/team/model/delete": {
    method: "POST",
    access: "scoped",
    answer: (parts, request) => changeModels(parts, request, false),
  },
};

async function create(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const sent = await request.body();
  const { id = randomUUID(), change } = readEntity(sent, body);
  const listed = readBody(teamMembers, sent);
  const wished = [
    ...(listed.members ?? []).map((user_id) => ({ user_id, role: "user" as const })),
    ...(listed.admins ?? []).map((user_id) => ({ user_id, role: "admin" as const })),
    ...(listed.members_with_roles ?? []),
  ];
  const members = wished.map((one) => ({ id: userOf(one), role: one.role ?? undefined }));
  const wish = { id, change, names, requestId: request.requestId, members };
  const { entity } = await createEntity(parts, "team", wish);
  noteEtag(request, entityEtag(entity));
  return rowOf(parts, entity);
}

async function update(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id, change } = readEntity(await request.body(), body);
  if (id === undefined) throw invalid("team_id", "is missing.");
  const changed = await parts.entities.update("team", { id, change, names, etag: request.etag });
  noteEtag(request, entityEtag(changed));
  return { team_id: id, data: await rowOf(parts, changed) };
}

async function deleteTeams(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { team_ids: ids } = readBody(teamsDelete, await request.body());
  for (const id of ids) await parts.entities.get("team", id);
  for (const id of ids) await parts.entities.delete("team", id);
  return { deleted_teams: [...ids] };
}

async function info(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const id = request.query.get("team_id") ?? "";
  if (id === "") throw invalid("team_id", "is missing: say which team, as in /team/info?team_id=...");
  const found = await parts.entities.get("team", id);
  const members = await parts.members.list("team", { entityIds: [id] });
  noteEtag(request, entityEtag(found));
  const keys = await parts.keys.listPage({ teamId: id }, 1, keysMax);
  return {
    team_id: id,
    team_info: teamRow(found, members),
    keys: keys.map(rowWithToken),
    team_memberships: members.map(membershipRow),
  };
}

async function page(parts: AdminParts, { query }: RouteRequest): Promise<JsonObject & { teams: JsonObject[] }> {
  const number = wholeNumber(query, "page", { min: 1, max: 1_000_000_000, otherwise: 1 });
  const size = wholeNumber(query, "page_size", { min: 1, max: 1_000, otherwise: 100 });
  const filter = {
    organizationId: query.get("organization_id") ?? undefined,
    memberId: query.get("user_id") ?? undefined,
    alias: query.get("team_alias") ?? undefined,
    ...(query.has("team_id") ? { ids: [query.get("team_id") ?? ""] } : {}),
  };
  const { entities, total } = await parts.entities.list("team", filter, { limit: size, offset: (number - 1) * size });
  const members = await parts.members.list("team", { entityIds: entities.map(({ id }) => id) });
  const byTeam = Map.groupBy(members, ({ entityId }) => entityId);
  const teams = entities.map((entity) => teamRow(entity, byTeam.get(entity.id) ?? []));
  return { teams, total, page: number, page_size: size, total_pages: Math.ceil(total / size) };
}

async function setBlocked(parts: AdminParts, request: RouteRequest, blocked: boolean): Promise<JsonObject> {
  const { team_id: id } = readBody(teamBlock, await request.body());
  return rowOf(parts, await parts.entities.update("team", { id, change: { blocked }, names }));
}

async function addMembers(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const sent = await request.body();
  const isBulk = Object.hasOwn(sent, "members");
  const bulk = isBulk ? readBody(bulkAdd, sent) : undefined;
  const read = bulk ?? readBody(memberAdd, sent);
  const listed: readonly z.output<typeof member>[] = bulk?.members ?? [read.member as z.output<typeof member>].flat();
  const fields = fieldsOf(read);
  const added = listed.map((one) => memberOf(read.team_id, one, fields));
  await parts.members.add(added, names);
  const found = await parts.entities.get("team", read.team_id);
  const members = await parts.members.list("team", { entityIds: [found.id] });
  const ids = new Set(added.map(({ membership: { userId } }) => userId));
  return {
    ...teamRow(found, members),
    updated_users: [...ids].map((user_id) => ({ user_id })),
    updated_team_memberships: members.filter(({ userId }) => ids.has(userId)).map(membershipRow),
  };
}

async function updateMember(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const read = readBody(memberUpdate, await request.body());
  const userId = userOf(read);
  const fields = { ...fieldsOf(read), ...(typeof read.role === "string" ? { role: read.role } : {}) };
  await parts.entities.get("team", read.team_id);
  await parts.members.update({ scope: "team", entityId: read.team_id, userId }, fields, names);
  const members = await parts.members.list("team", { entityIds: [read.team_id] });
  const changed = members.find((one) => one.userId === userId);
  return {
    team_id: read.team_id,
    user_id: userId,
    ...(changed === undefined ? {} : (membershipRow(changed).litellm_budget_table as JsonObject | null)),
    max_budget_in_team:
      changed === undefined ? null : ((membershipRow(changed).litellm_budget_table as JsonObject).max_budget ?? null),
    role: changed?.role ?? null,
  };
}

async function removeMember(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const read = readBody(memberUpdate, await request.body());
  const found = await parts.entities.get("team", read.team_id);
  await parts.members.remove({ scope: "team", entityId: found.id, userId: userOf(read) });
  return rowOf(parts, found);
}

async function changeModels(parts: AdminParts, request: RouteRequest, isAdded: boolean): Promise<Json> {
  const { team_id: id, models } = readBody(teamModels, await request.body());
  const change = isAdded ? { add: models, remove: [] } : { add: [], remove: models };
  return rowOf(parts, await parts.entities.changeModels("team", id, change, names));
}

async function resetMember(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { reset_to: resetTo } = readBody(resetSpendBody, await request.body());
  const { team_id = "", user_id = "" } = request.path;
  const { member, previous } = await parts.members.resetSpend(team_id, user_id, { resetTo, name: "reset_to" });
  const { budget } = member;
  return {
    ...{ team_id, user_id, spend: usdNumber(budget?.spent ?? 0n), previous_spend: usdNumber(previous) },
    max_budget: budget === undefined || budget.maxBudget === null ? null : usdNumber(budget.maxBudget),
    budget_reset_at: isoOf(budget?.resetsAtMs),
  };
}

/** Teams the caller may make himself a member of. */
async function available(parts: AdminParts): Promise<Json> {
  const { entities } = await parts.entities.listJoinable({ limit: teamsMax, offset: 0 });
  return entities.map((entity) => teamRow(entity, []));
}

async function listPermissions({ entities }: AdminParts, { query }: RouteRequest): Promise<JsonObject> {
  const id = query.get("team_id") ?? "";
  if (id === "") throw invalid("team_id", "is missing: say which team, as in /team/permissions_list?team_id=...");
  return permissionsRow(await entities.get("team", id));
}

async function updatePermissions({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { team_id: id, team_member_permissions } = readBody(permissions, await request.body());
  const change = { extra: withPermissions(team_member_permissions) };
  return permissionsRow(await entities.update("team", { id, change, names }));
}

function permissionsRow({ id, extra }: EntityRecord): JsonObject {
  return {
    team_id: id,
    team_member_permissions: teamPermissions(extra),
    all_available_permissions: [...allPermissions],
  };
}

async function rowOf(parts: AdminParts, entity: EntityRecord): Promise<JsonObject> {
  return teamRow(entity, await parts.members.list("team", { entityIds: [entity.id] }));
}

function memberOf(teamId: string, one: z.output<typeof member>, fields: Partial<MemberFields>) {
  const role = typeof one.role === "string" ? { role: one.role } : {};
  return {
    membership: { scope: "team" as const, entityId: teamId, userId: userOf(one) },
    fields: { ...fields, ...role },
  };
}

function userOf({ user_id, user_email }: { user_id?: unknown; user_email?: unknown }): string {
  const id = user_id ?? user_email;
  if (typeof id === "string" && id !== "") return id;
  throw invalid("user_id", "is missing.");
}

function fieldsOf(read: {
  max_budget_in_team?: bigint | null | undefined;
  budget_duration?: string | null | undefined;
  budget_id?: string | null | undefined;
  tpm_limit?: number | null | undefined;
  rpm_limit?: number | null | undefined;
}): Partial<MemberFields> {
  return {
    ...(read.max_budget_in_team === undefined ? {} : { maxBudget: read.max_budget_in_team }),
    ...(read.budget_duration === undefined ? {} : { budgetDuration: read.budget_duration }),
    ...(read.budget_id === undefined ? {} : { budgetId: read.budget_id }),
    ...(read.tpm_limit === undefined ? {} : { tpmLimit: read.tpm_limit }),
    ...(read.rpm_limit === undefined ? {} : { rpmLimit: read.rpm_limit }),
  };
}
