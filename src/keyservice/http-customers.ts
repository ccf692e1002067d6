/** LiteLLM's /customer/* (the same as /end_user/*), /tag/* and /budget/* endpoints. */

import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Json, JsonObject } from "../completion.ts";
import type { AdminParts } from "./admin.ts";
import { templateEtag } from "./budget-templates.ts";
import { type EntityRecord, entityEtag } from "./entity-records.ts";
import { namesOf, readEntity } from "./http-entity-body.ts";
import { customerRow, tagRow, templateRow } from "./http-entity-rows.ts";
import { bodyFields, httpNames, present, readBody } from "./http-key-body.ts";
import { wholeNumber } from "./http-query.ts";
import { type ManagementRoute, type ManagementRoutes, noteEtag, type RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";

const customer = { id: "user_id", idsToo: ["end_user_id"], alias: "alias", aliases: "aliases" } as const;
const customerNames = namesOf(customer);
const tag = { id: "name", alias: "description", aliases: "aliases" } as const;
const tagNames = namesOf(tag);
const listMax = 10_000;

const ids = z.looseObject({ user_ids: z.array(z.string().min(1), "must be a list of ids.").min(1).max(1_000) });
const budgetBody = z.looseObject({
  budget_id: z.string("must be a string.").min(1, "must not be empty.").nullish(),
  max_budget: bodyFields.max_budget,
  soft_budget: bodyFields.soft_budget,
  budget_duration: bodyFields.budget_duration,
  rpm_limit: bodyFields.rpm_limit,
  tpm_limit: bodyFields.tpm_limit,
  max_parallel_requests: bodyFields.max_parallel_requests,
});

const customerRoutes: ManagementRoutes = {
  new: { method: "POST", access: "admin", heeds: "idempotency-key", answer: newCustomer },
  update: { method: "POST", access: "admin", heeds: "if-match", answer: updateCustomer },
  delete: { method: "POST", access: "admin", answer: deleteCustomers },
  info: { method: "GET", access: "viewer", answer: customerInfo },
  list: { method: "GET", access: "viewer", answer: listCustomers },
  block: { method: "POST", access: "admin", answer: (parts, request) => blockCustomers(parts, request, true) },
  unblock: { method: "POST", access: "admin", answer: (parts, request) => blockCustomers(parts, request, false) },
};

/** The routes, by path. */
export const customerAndBudgetRoutes: ManagementRoutes = {
  ...under("/customer/", customerRoutes),
  ...under("/end_user/", customerRoutes),
  "/tag/new": { method: "POST", access: "admin", heeds: "idempotency-key", answer: newTag },
  "/tag/update": { method: "POST", access: "admin", heeds: "if-match", answer: updateTag },
  "/tag/info": { method: "POST", access: "viewer", answer: tagInfo },
  "/tag/list": { method: "GET", access: "viewer", answer: listTags },
  "/tag/delete": { method: "POST", access: "admin", answer: deleteTag },
  "/budget/new": { method: "POST", access: "admin", heeds: "idempotency-key", answer: newBudget },
  "/budget/update": { method: "POST", access: "admin", heeds: "if-match", answer: updateBudget },
  "/budget/info": { method: "POST", access: "viewer", answer: budgetInfo },
  "/budget/settings": { method: "GET", access: "viewer", answer: budgetSettings },
  "/budget/list": { method: "GET", access: "viewer", answer: listBudgets },
  "/budget/delete": { method: "POST", access: "admin", answer: deleteBudget },
};

function under(prefix: string, routes: Readonly<Record<string, ManagementRoute>>): ManagementRoutes {
  return Object.fromEntries(Object.entries(routes).map(([name, route]) => [prefix + name, route]));
}

async function newCustomer({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id, change } = readEntity(await request.body(), customer);
  if (id === undefined) throw invalid("user_id", "is missing.");
  if (typeof change.maxBudget === "bigint" && typeof change.budgetId === "string") {
    throw invalid("max_budget", "cannot be given together with `budget_id`. Send one of them.");
  }
  const wish = { id, change, names: customerNames, requestId: request.requestId };
  return shown(request, await entities.create("end_user", wish), customerRow);
}

async function updateCustomer({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id, change } = readEntity(await request.body(), customer);
  if (id === undefined) throw invalid("user_id", "is missing.");
  const wish = { id, change, names: customerNames, etag: request.etag };
  return shown(request, await entities.update("end_user", wish), customerRow);
}

async function deleteCustomers({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { user_ids } = readBody(ids, await request.body());
  for (const id of user_ids) await entities.get("end_user", id);
  for (const id of user_ids) await entities.delete("end_user", id);
  return {
    deleted_customers: user_ids.length,
    message: `Successfully deleted customers with ids: ${user_ids.join(", ")}`,
  };
}

async function customerInfo({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { query } = request;
  const id = query.get("end_user_id") ?? query.get("user_id") ?? "";
  if (id === "") throw invalid("end_user_id", "is missing: say which customer, as in /customer/info?end_user_id=...");
  return shown(request, await entities.get("end_user", id), customerRow);
}

function shown(request: RouteRequest, entity: EntityRecord, row: (entity: EntityRecord) => JsonObject): JsonObject {
  noteEtag(request, entityEtag(entity));
  return row(entity);
}

async function listCustomers({ entities }: AdminParts, { query }: RouteRequest): Promise<Json> {
  const limit = wholeNumber(query, "page_size", { min: 1, max: listMax, otherwise: listMax });
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000, otherwise: 1 });
  const found = await entities.list("end_user", {}, { limit, offset: (page - 1) * limit });
  return found.entities.map(customerRow);
}

/** As in LiteLLM, a customer nobody has made is made to be blocked. */
async function blockCustomers({ entities }: AdminParts, request: RouteRequest, blocked: boolean): Promise<JsonObject> {
  const { user_ids } = readBody(ids, await request.body());
  const rows: JsonObject[] = [];
  for (const id of user_ids) {
    const wish = { id, change: { blocked }, names: customerNames };
    const isKnown = !blocked || (await entities.find("end_user", id)) !== undefined;
    rows.push(customerRow(await (isKnown ? entities.update("end_user", wish) : entities.create("end_user", wish))));
  }
  return { [blocked ? "blocked_users" : "unblocked_users"]: rows };
}

async function newTag({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id, change } = readEntity(await request.body(), tag);
  if (id === undefined) throw invalid("name", "is missing.");
  const made = await entities.create("tag", { id, change, names: tagNames, requestId: request.requestId });
  return { message: `Tag ${id} created successfully`, tag: shown(request, made, tagRow) };
}

async function updateTag({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id, change } = readEntity(await request.body(), tag);
  if (id === undefined) throw invalid("name", "is missing.");
  const changed = await entities.update("tag", { id, change, names: tagNames, etag: request.etag });
  return { message: `Tag ${id} updated successfully`, tag: shown(request, changed, tagRow) };
}

async function tagInfo({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { names } = readBody(
    z.looseObject({ names: z.array(z.string(), "must be a list of names.") }),
    await request.body(),
  );
  const found = await entities.list("tag", { ids: names }, { limit: listMax, offset: 0 });
  return Object.fromEntries(found.entities.map((entity) => [entity.id, tagRow(entity)]));
}

async function listTags({ entities }: AdminParts): Promise<Json> {
  return (await entities.list("tag", {}, { limit: listMax, offset: 0 })).entities.map(tagRow);
}

async function deleteTag({ entities }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { name } = readBody(z.looseObject({ name: z.string("must be a name.").min(1) }), await request.body());
  await entities.delete("tag", name);
  return { message: `Tag ${name} deleted successfully` };
}

async function newBudget({ templates }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { budgetId = randomUUID(), fields } = budgetOf(await request.body());
  const made = await templates.create(budgetId, fields, { names: httpNames, requestId: request.requestId });
  noteEtag(request, templateEtag(made));
  return templateRow(made);
}

async function updateBudget({ templates }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { budgetId, fields } = budgetOf(await request.body());
  if (budgetId === undefined) throw invalid("budget_id", "is missing.");
  const changed = await templates.update(budgetId, fields, { names: httpNames, etag: request.etag });
  noteEtag(request, templateEtag(changed));
  return templateRow(changed);
}

async function budgetInfo({ templates }: AdminParts, request: RouteRequest): Promise<Json> {
  const { budgets } = readBody(
    z.looseObject({ budgets: z.array(z.string(), "must be a list of ids.") }),
    await request.body(),
  );
  return (await templates.list(budgets)).map(templateRow);
}

/** What may be set, and how it is set in one budget. */
async function budgetSettings({ templates }: AdminParts, request: RouteRequest): Promise<Json> {
  const [found] = await templates.list([request.query.get("budget_id") ?? ""]);
  if (found !== undefined) noteEtag(request, templateEtag(found));
  const row: JsonObject = found === undefined ? {} : templateRow(found);
  const fields = ["max_budget", "soft_budget", "budget_duration", "tpm_limit", "rpm_limit", "max_parallel_requests"];
  return fields.map((name) => ({
    field_name: name,
    field_type: name === "budget_duration" ? "String" : name.endsWith("budget") ? "Float" : "Integer",
    field_value: row[name] ?? null,
    stored_in_db: found !== undefined,
  }));
}

async function listBudgets({ templates }: AdminParts): Promise<Json> {
  return (await templates.list()).map(templateRow);
}

async function deleteBudget({ templates }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id } = readBody(z.looseObject({ id: z.string("must be a budget's id.").min(1) }), await request.body());
  await templates.delete(id);
  return { budget_id: id, deleted: true };
}

function budgetOf(body: JsonObject) {
  const { budget_id, max_budget, soft_budget, budget_duration, rpm_limit, tpm_limit, max_parallel_requests, ...rest } =
    readBody(budgetBody, body);
  const fields = present({
    maxBudget: max_budget,
    softBudget: soft_budget,
    budgetDuration: budget_duration,
    rpmLimit: rpm_limit,
    tpmLimit: tpm_limit,
    maxParallelRequests: max_parallel_requests,
    extra: Object.keys(rest).length === 0 ? undefined : (rest as JsonObject),
  });
  return { budgetId: budget_id ?? undefined, fields };
}
