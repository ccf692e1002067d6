/** LiteLLM's /user/* and /organization/* endpoints. */

import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Json, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { AdminParts } from "./admin.ts";
import { eachForItself, type Outcome } from "./each-for-itself.ts";
import { createEntity } from "./entity-creation.ts";
import { type EntityRecord, entityEtag } from "./entity-records.ts";
import { namesOf, readEntity } from "./http-entity-body.ts";
import { organizationRow, teamRow, userRow } from "./http-entity-rows.ts";
import { httpNames, readBody } from "./http-key-body.ts";
import { rowWithToken } from "./http-key-rows.ts";
import { wholeNumber } from "./http-query.ts";
import { type ManagementRoutes, noteEtag, type RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";

const user = { id: "user_id", alias: "user_alias", aliases: "aliases" } as const;
const userNames = namesOf(user);
const organization = { id: "organization_id", alias: "organization_alias", aliases: "model_aliases" } as const;
const organizationNames = namesOf(organization);
const keysMax = 1_000;
const listMax = 10_000;

const orgMember = z.looseObject({
  user_id: z.string().min(1).nullish(),
  user_email: z.string().min(1).nullish(),
  role: z.string("must be a role.").min(1).nullish(),
});
const orgMembers = z.looseObject({
  organization_id: z.string("must be the organization's id.").min(1),
  member: z.union([orgMember, z.array(orgMember)]),
});
const oneOrgMember = orgMember.extend({ organization_id: z.string("must be the organization's id.").min(1) });

const changes = "must be a list of changes, each with the `user_id` it is for.";
const object = (complaint: string) =>
  z.custom<JsonObject>((value) => typeof value === "object" && value !== null && !Array.isArray(value), complaint);
const bulkUpdate = z.looseObject({
  users: z
    .array(object(changes), changes)
    .min(1, "must have a change.")
    .max(500, "must have at most 500 entries.")
    .nullish(),
  all_users: z.boolean("must be true or false.").nullish(),
  user_updates: object("must be the change for all users.").nullish(),
});

/** The routes, by path. */
export const userRoutes: ManagementRoutes = {
  "/user/new": { method: "POST", access: "admin", heeds: "idempotency-key", answer: newUser },
  "/user/info": { method: "GET", access: "scoped", answer: userInfo },
  "/user/update": { method: "POST", access: "admin", heeds: "if-match", answer: updateUser },
  "/user/bulk_update": { method: "POST", access: "admin", answer: updateUsers },
  "/user/delete": { method: "POST", access: "admin", answer: deleteUsers },
  "/user/list": { method: "GET", access: "viewer", answer: listUsers },
  "/organization/new": { method: "POST", access: "admin", heeds: "idempotency-key", answer: newOrganization },
  "/organization/info": { method: "GET", access: "scoped", answer: organizationInfo },
  "/organization/update": {
    ...{ method: ["PATCH", "POST"], access: "admin", heeds: "if-match", answer: updateOrganization },
  },
  "/organization/delete": { method: ["DELETE", "POST"], access: "admin", answer: deleteOrganizations },
  "/organization/list": { method: "GET", access: "scoped", answer: listOrganizations },
  "/organization/member_add": { method: "POST", access: "scoped", answer: addMembers },
  "/organization/member_update": { method: ["PATCH", "POST"], access: "scoped", answer: updateMember },
  "/organization/member_delete": { method: ["DELETE", "POST"], access: "scoped", answer: removeMember },
};

/** With a key of their own, unless `auto_create_key` is false. */
async function newUser(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const sent = await request.body();
  const { id = randomUUID(), change } = readEntity(sent, user);
  const wishes = readBody(
    z.looseObject({
      auto_create_key: z.boolean("must be true or false.").nullish(),
      teams: z.array(z.string(), "must be a list of team ids.").nullish(),
      key_alias: z.string().nullish(),
      duration: z.string().nullish(),
    }),
    sent,
  );
  const { auto_create_key: _, teams, key_alias: alias, duration, ...extra } = change.extra ?? {};
  const teamIds = wishes.teams ?? [];
  const own = {
    ...(wishes.key_alias ? { alias: wishes.key_alias } : {}),
    ...(wishes.duration ? { duration: wishes.duration } : {}),
    ...(change.models === undefined ? {} : { models: change.models }),
  };
  const { entity, key } = await createEntity(parts, "user", {
    ...{ id, change: { ...change, extra }, names: userNames, requestId: request.requestId },
    members: teamIds.map((team) => ({ id: team })),
    ...(wishes.auto_create_key === false ? {} : { key: { change: own, names: httpNames, secret: undefined } }),
  });
  noteEtag(request, entityEtag(entity));
  const row = userRow(entity, teamIds);
  if (key === undefined) return { ...row, key: "" };
  return { ...row, key: key.secret ?? "", key_name: key.key.masked, key_id: key.key.keyId };
}

async function userInfo(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const id = request.query.get("user_id") ?? "";
  if (id === "") throw invalid("user_id", "is missing: say which user, as in /user/info?user_id=...");
  const found = await parts.entities.get("user", id);
  noteEtag(request, entityEtag(found));
  const keys = await parts.keys.listPage({ userId: id }, 1, keysMax);
  const { entities: teams } = await parts.entities.list("team", { memberId: id }, { limit: keysMax, offset: 0 });
  const members = await parts.members.list("team", { entityIds: teams.map((team) => team.id) });
  const byTeam = Map.groupBy(members, ({ entityId }) => entityId);
  return {
    user_id: id,
    user_info: userRow(
      found,
      teams.map((team) => team.id),
    ),
    keys: keys.map(rowWithToken),
    teams: teams.map((team) => teamRow(team, byTeam.get(team.id) ?? [])),
  };
}

async function updateUser(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id, change } = readEntity(await request.body(), user);
  if (id === undefined) throw invalid("user_id", "is missing.");
  const changed = await parts.entities.update("user", { id, change, names: userNames, etag: request.etag });
  noteEtag(request, entityEtag(changed));
  return { user_id: id, data: userRow(changed, await teamsOf(parts, id)) };
}

/** Each change is made or refused for itself; `user_updates` is one for all users. */
async function updateUsers(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { users, all_users: isForAll, user_updates: change } = readBody(bulkUpdate, await request.body());
  if (isForAll === true) {
    if (change == null) throw invalid("user_updates", "is missing: it is the change for all users.");
    if (users != null) throw invalid("users", "cannot be given together with `all_users`.");
    const updated = await parts.entities.updateAll("user", {
      change: readEntity(change, user).change,
      names: userNames,
    });
    const teams = Map.groupBy(await parts.members.list("team", {}), ({ userId }) => userId);
    return bulkRow(
      updated.map(({ id, outcome }) => {
        return resultRow({ user_id: id }, outcome, teams.get(id)?.map(({ entityId }) => entityId) ?? []);
      }),
    );
  }
  if (users == null) throw invalid("users", "is missing; or send `all_users` and `user_updates`.");
  const outcomes = await eachForItself(users, async (sent) => {
    const id = textOrNull(sent.user_id) ?? (await idOfEmail(parts, textOrNull(sent.user_email)));
    return parts.entities.update("user", { id, change: readEntity(sent, user).change, names: userNames });
  });
  const results: JsonObject[] = [];
  for (const [index, outcome] of outcomes.entries()) {
    const teams = "done" in outcome ? await teamsOf(parts, outcome.done.id) : [];
    results.push(resultRow(users[index] ?? {}, outcome, teams));
  }
  return bulkRow(results);
}

function resultRow(sent: JsonObject, outcome: Outcome<EntityRecord>, teams: string[]): JsonObject {
  if ("refusal" in outcome) {
    const named = { user_id: textOrNull(sent.user_id), user_email: textOrNull(sent.user_email) };
    return { ...named, success: false, error: outcome.refusal.message, updated_user: null };
  }
  const { id, email } = outcome.done;
  return { user_id: id, user_email: email, success: true, error: null, updated_user: userRow(outcome.done, teams) };
}

function bulkRow(results: JsonObject[]): JsonObject {
  const failed_updates = results.filter(({ success }) => success === false).length;
  const counts = { successful_updates: results.length - failed_updates, failed_updates };
  return { results, total_requested: results.length, ...counts };
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

/** The user with an address. @throws GatewayError `invalid_request`, `not_found`. */
async function idOfEmail({ entities }: AdminParts, email: string | null): Promise<string> {
  if (email === null) throw invalid("user_id", "is missing; or give the `user_email` of one user.");
  const found = await entities.list("user", { email }, { limit: 2, offset: 0 });
  const [one] = found.entities;
  if (one === undefined)
    throw new GatewayError("not_found", "There is no user with this address.", { param: "user_email" });
  if (found.entities.length > 1) throw invalid("user_email", "is that of several users: name one by `user_id`.");
  return one.id;
}

async function deleteUsers({ entities }: AdminParts, request: RouteRequest): Promise<Json> {
  const { user_ids } = readBody(
    z.looseObject({ user_ids: z.array(z.string(), "must be a list of ids.").min(1).max(1_000) }),
    await request.body(),
  );
  for (const id of user_ids) await entities.get("user", id);
  for (const id of user_ids) await entities.delete("user", id);
  return user_ids.length;
}

async function listUsers(parts: AdminParts, { query }: RouteRequest): Promise<JsonObject> {
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000_000, otherwise: 1 });
  const size = wholeNumber(query, "page_size", { min: 1, max: 1_000, otherwise: 25 });
  const filter = {
    role: query.get("role") ?? undefined,
    email: query.get("user_email") ?? undefined,
    ...(query.has("user_ids") ? { ids: (query.get("user_ids") ?? "").split(",") } : {}),
  };
  const { entities, total } = await parts.entities.list("user", filter, { limit: size, offset: (page - 1) * size });
  const users: JsonObject[] = [];
  for (const entity of entities) users.push(userRow(entity, await teamsOf(parts, entity.id)));
  return { users, total, page, page_size: size, total_pages: Math.ceil(total / size) };
}

async function teamsOf({ members }: AdminParts, userId: string): Promise<string[]> {
  return (await members.list("team", { userId })).map(({ entityId }) => entityId);
}

async function newOrganization(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id = randomUUID(), change } = readEntity(await request.body(), organization);
  if (change.alias === undefined || change.alias === null) throw invalid("organization_alias", "is missing.");
  const wish = { id, change: { ...change, organizationId: null }, names: organizationNames };
  const made = await parts.entities.create("organization", { ...wish, requestId: request.requestId });
  noteEtag(request, entityEtag(made));
  return rowOf(parts, made);
}

async function organizationInfo(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const id = request.query.get("organization_id") ?? "";
  if (id === "")
    throw invalid("organization_id", "is missing: say which, as in /organization/info?organization_id=...");
  const found = await parts.entities.get("organization", id);
  noteEtag(request, entityEtag(found));
  const { entities: teams } = await parts.entities.list("team", { organizationId: id }, { limit: keysMax, offset: 0 });
  return { ...(await rowOf(parts, found)), teams: teams.map((team) => teamRow(team, [])) };
}

async function updateOrganization(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id, change } = readEntity(await request.body(), organization);
  if (id === undefined) throw invalid("organization_id", "is missing.");
  const { organizationId: _, ...fields } = change;
  const wish = { id, change: fields, names: organizationNames, etag: request.etag };
  const changed = await parts.entities.update("organization", wish);
  noteEtag(request, entityEtag(changed));
  return rowOf(parts, changed);
}

async function deleteOrganizations(parts: AdminParts, request: RouteRequest): Promise<Json> {
  const { organization_ids: ids } = readBody(
    z.looseObject({ organization_ids: z.array(z.string(), "must be a list of ids.").min(1).max(1_000) }),
    await request.body(),
  );
  for (const id of ids) await parts.entities.get("organization", id);
  const rows: Json[] = [];
  for (const id of ids) rows.push(organizationRow(await parts.entities.delete("organization", id), []));
  return rows;
}

async function listOrganizations(parts: AdminParts): Promise<Json> {
  const { entities } = await parts.entities.list("organization", {}, { limit: listMax, offset: 0 });
  const members = await parts.members.list("organization", { entityIds: entities.map(({ id }) => id) });
  const byOrganization = Map.groupBy(members, ({ entityId }) => entityId);
  return entities.map((entity) => organizationRow(entity, byOrganization.get(entity.id) ?? []));
}

async function addMembers(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { organization_id: id, member } = readBody(orgMembers, await request.body());
  const found = await parts.entities.get("organization", id);
  const added = [member].flat().map((one) => ({
    membership: { scope: "organization", entityId: id, userId: memberId(one as z.output<typeof orgMember>) } as const,
    fields: { role: String((one as z.output<typeof orgMember>).role ?? "internal_user") },
  }));
  await parts.members.add(added, organizationNames);
  return {
    ...(await rowOf(parts, found)),
    updated_users: added.map(({ membership: { userId } }) => ({ user_id: userId })),
  };
}

async function updateMember(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const read = readBody(oneOrgMember, await request.body());
  const found = await parts.entities.get("organization", read.organization_id);
  const membership = { scope: "organization", entityId: found.id, userId: memberId(read) } as const;
  await parts.members.update(membership, typeof read.role === "string" ? { role: read.role } : {}, organizationNames);
  return rowOf(parts, found);
}

async function removeMember(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const read = readBody(oneOrgMember, await request.body());
  const found = await parts.entities.get("organization", read.organization_id);
  await parts.members.remove({ scope: "organization", entityId: found.id, userId: memberId(read) });
  return rowOf(parts, found);
}

function memberId({
  user_id,
  user_email,
}: {
  user_id?: string | null | undefined;
  user_email?: string | null | undefined;
}): string {
  const id = user_id ?? user_email;
  if (id === undefined || id === null) throw invalid("user_id", "is missing.");
  return id;
}

async function rowOf(parts: AdminParts, entity: EntityRecord): Promise<JsonObject> {
  return organizationRow(entity, await parts.members.list("organization", { entityIds: [entity.id] }));
}
