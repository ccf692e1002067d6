/** LiteLLM's /key/* endpoints. */

import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { usdNumber } from "../money.ts";
import type { Secret } from "../secret.ts";
import type { AdminParts } from "./admin.ts";
import { eachForItself } from "./each-for-itself.ts";
import { acts } from "./extra-fields.ts";
import {
  bulkUpdateBody,
  changeOf,
  deleteBody,
  generateBody,
  httpNames,
  infoBody,
  keyBody,
  readBody,
  regenerateBody,
  resetSpendBody,
  updateBody,
} from "./http-key-body.ts";
import { isoOf, rowOf, rowWithToken } from "./http-key-rows.ts";
import { wholeNumber } from "./http-query.ts";
import { type ManagementRoutes, noteEtag, type RouteRequest } from "./http-route.ts";
import { invalid, type KeyChange } from "./key-fields.ts";
import { etagOf } from "./key-records.ts";
import { noSuchKey } from "./key-refusals.ts";
import { checkSecret, digestOf, type KeyReference, readReference } from "./key-secrets.ts";
import { type KeyFilter, type KeyOrder, keyOrders } from "./key-selection.ts";
import type { Keys } from "./keys.ts";
import { sameSecret } from "./secrets.ts";

/** The routes, by path. */
export const keyRoutes: ManagementRoutes = {
  "/key/generate": { method: "POST", access: "scoped", heeds: "idempotency-key", answer: generate },
  "/key/service-account/generate": {
    ...{ method: "POST", access: "scoped", heeds: "idempotency-key", answer: generateForService },
  },
  "/key/health": { method: "POST", access: "scoped", answer: health },
  "/key/update": { method: "POST", access: "scoped", heeds: "if-match", answer: update },
  "/key/regenerate": { method: "POST", access: "scoped", heeds: "if-match", answer: regenerate },
  "/key/{key}/regenerate": { method: "POST", access: "scoped", heeds: "if-match", answer: regenerate },
  "/key/{key}/reset_spend": { method: "POST", access: "scoped", answer: resetSpend },
  "/key/delete": { method: "POST", access: "scoped", answer: deleteKeys },
  "/key/block": { method: "POST", access: "scoped", answer: (parts, request) => setBlocked(parts, request, true) },
  "/key/unblock": { method: "POST", access: "scoped", answer: (parts, request) => setBlocked(parts, request, false) },
  "/key/info": { method: "GET", access: "scoped", answer: info },
  "/v2/key/info": { method: "POST", access: "scoped", answer: infoOfMany },
  "/key/bulk_update": { method: "POST", access: "scoped", answer: updateMany },
  "/key/aliases": { method: "GET", access: "scoped", answer: aliases },
  "/key/list": { method: "GET", access: "scoped", answer: list },
};

async function generate(parts: AdminParts, request: RouteRequest, ofService = false): Promise<JsonObject> {
  const { keys, masterKey } = parts;
  const body = readBody(generateBody, await request.body());
  const secret = body.key ?? undefined;
  if (secret !== undefined) checkSecret(secret, masterKey, httpNames.secret);
  const change = changeOf(body);
  const made = await keys.create({
    change,
    names: httpNames,
    secret,
    requestId: request.requestId,
    ofService,
  });
  request.note("x-tollgate-inactive-fields", inactiveFields(change));
  noteEtag(request, etagOf(made.key));
  // Of a request that is repeated, the secret is not told again.
  const token = made.secret === undefined ? null : digestOf(made.secret).toString("hex");
  return { ...rowOf(made.key), key: made.secret ?? null, token, token_id: token, duration: body.duration ?? null };
}

/** A key of a team's service, which is no user's and outlives them all. */
function generateForService(parts: AdminParts, request: RouteRequest): Promise<JsonObject> {
  return generate(parts, request, true);
}

/** A key that was blocked or is over would not have come this far. Callbacks are not tried: keys have none here. */
function health(): JsonObject {
  return { key: "healthy", logging_callbacks: null };
}

async function regenerate({ keys, masterKey }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { key, new_key, grace_period, new_master_key, ...body } = readBody(regenerateBody, await request.body());
  if (new_master_key !== undefined && new_master_key !== null) {
    throw invalid("new_master_key", "cannot be set here: the master key is in the configuration.");
  }
  const named = request.path.key ?? key ?? "";
  if (named === "") throw invalid("key", "is missing.");
  refuseMasterKey(named, masterKey);
  const secret = new_key ?? undefined;
  const names = { ...httpNames, secret: "new_key" };
  if (secret !== undefined) checkSecret(secret, masterKey, names.secret);
  const change = changeOf(body);
  const made = await keys.rotate(referenceTo(named), {
    ...{ change, names, secret, etag: request.etag },
    gracePeriod: grace_period ?? "",
    gracePeriodName: "grace_period",
  });
  request.note("x-tollgate-inactive-fields", inactiveFields(change));
  noteEtag(request, etagOf(made.key));
  const token = digestOf(made.secret).toString("hex");
  return { ...rowOf(made.key), key: made.secret, token, token_id: token, duration: body.duration ?? null };
}

async function update({ keys }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const body = readBody(updateBody, await request.body());
  const change = changeOf(body);
  const key = await keys.update(referenceTo(body.key), { change, names: httpNames, etag: request.etag });
  noteEtag(request, etagOf(key));
  request.note("x-tollgate-inactive-fields", inactiveFields(change));
  return { ...rowWithToken(key), key: body.key };
}

async function resetSpend({ keys, masterKey }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { reset_to } = readBody(resetSpendBody, await request.body());
  const named = request.path.key ?? "";
  refuseMasterKey(named, masterKey);
  const { key, previous } = await keys.resetSpend(referenceTo(named), reset_to, "reset_to");
  return {
    key_hash: key.keyId,
    spend: usdNumber(key.spent),
    previous_spend: usdNumber(previous),
    max_budget: key.maxBudget === null ? null : usdNumber(key.maxBudget),
    budget_reset_at: isoOf(key.resetsAtMs),
  };
}

async function deleteKeys({ keys }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const body = readBody(deleteBody, await request.body());
  const asked = [
    ...(body.keys ?? []).map((text) => ({ text, reference: readReference(text) })),
    ...(body.key_aliases ?? []).map((text) => ({ text, reference: { kind: "alias", alias: text } as const })),
  ];
  if (asked.length === 0) throw invalid("keys", "must name keys to delete; or give `key_aliases`.");
  const found: { text: string; keyId: string }[] = [];
  for (const { text, reference } of asked) {
    const key = await keys.find(reference);
    if (key !== undefined) found.push({ text, keyId: key.keyId });
  }
  if (found.length === 0) noSuchKey();
  await keys.delete(found.map(({ keyId }) => keyId));
  return { deleted_keys: found.map(({ text }) => text) };
}

async function setBlocked({ keys }: AdminParts, request: RouteRequest, blocked: boolean): Promise<JsonObject> {
  const body = readBody(keyBody, await request.body());
  return rowWithToken(await keys.setBlocked(referenceTo(body.key), blocked));
}

/** Of the caller's own key, unless it says which. A key that was deleted is still shown, and says so. */
async function info({ keys, operator }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const asked = request.query.get("key") || operator.keyId;
  if (asked === undefined) throw invalid("key", "is missing: say which key, as in /key/info?key=sk-...");
  return { key: asked, info: await infoOf(keys, asked, request) };
}

async function infoOf(keys: Keys, text: string, request: RouteRequest): Promise<JsonObject> {
  const reference = referenceTo(text);
  const key = await keys.find(reference);
  if (key !== undefined) {
    noteEtag(request, etagOf(key));
    return rowOf(key);
  }
  const deleted = (await keys.findDeleted(reference)) ?? noSuchKey();
  return { ...rowOf(deleted), status: "deleted", deleted_at: isoOf(deleted.deletedAtMs) };
}

/** Keys there are none of are passed over, as in LiteLLM. */
async function infoOfMany({ keys }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { keys: asked } = readBody(infoBody, await request.body());
  const info: JsonObject[] = [];
  for (const text of new Set(asked)) {
    const reference = readReference(text);
    const key = reference.kind === "alias" ? undefined : await keys.find(reference);
    if (key !== undefined) info.push(rowWithToken(key));
  }
  return { key: asked, info };
}

/** Each change is made or refused for itself. */
async function updateMany({ keys }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { keys: changes } = readBody(bulkUpdateBody, await request.body());
  const outcomes = await eachForItself(changes, async (change) => {
    const body = readBody(updateBody, change);
    return keys.update(referenceTo(body.key), { change: changeOf(body), names: httpNames, etag: undefined });
  });
  const successful: JsonObject[] = [];
  const failed: JsonObject[] = [];
  for (const [index, outcome] of outcomes.entries()) {
    const key = changes[index]?.key ?? null;
    if ("done" in outcome) successful.push({ key, key_info: rowWithToken(outcome.done) });
    else failed.push({ key, key_info: null, failed_reason: outcome.refusal.message });
  }
  return { total_requested: changes.length, successful_updates: successful, failed_updates: failed };
}

async function aliases({ keys }: AdminParts, { query }: RouteRequest): Promise<JsonObject> {
  return { aliases: await keys.listAliases(filterOf(query)) };
}

/** @returns undefined for the usual order. @throws GatewayError `invalid_request`. */
function orderOf(query: URLSearchParams): KeyOrder | undefined {
  const by = query.get("sort_by");
  const direction = query.get("sort_order")?.toLowerCase();
  if (direction !== undefined && direction !== "asc" && direction !== "desc") {
    throw invalid("sort_order", 'must be "asc" or "desc".');
  }
  if (by === null && direction === undefined) return undefined;
  const known = keyOrders.find((name) => name === (by ?? "created_at"));
  if (known === undefined) throw invalid("sort_by", `must be one of ${keyOrders.join(", ")}.`);
  return { by: known, isDescending: direction !== "asc" };
}

async function list({ keys }: AdminParts, { query }: RouteRequest): Promise<JsonObject> {
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000_000, otherwise: 1 });
  const size = wholeNumber(query, "size", { min: 1, max: 100, otherwise: 10 });
  const filter = filterOf(query);
  const [found, total] = await Promise.all([keys.listPage(filter, page, size, orderOf(query)), keys.count(filter)]);
  const full = query.get("return_full_object")?.toLowerCase() === "true";
  return {
    keys: full ? found.map(rowWithToken) : found.map((key) => key.keyId),
    total_count: total,
    current_page: page,
    total_pages: Math.ceil(total / size),
  };
}

function filterOf(query: URLSearchParams): KeyFilter {
  const status = query.get("status");
  if (status !== null && status !== "deleted") throw invalid("status", 'can only be "deleted".');
  const alias = query.get("key_alias");
  const key = query.get("key_hash");
  return {
    userId: query.get("user_id") ?? undefined,
    teamId: query.get("team_id") ?? undefined,
    organizationId: query.get("organization_id") ?? undefined,
    references: [
      ...(alias === null ? [] : [{ kind: "alias", alias } as const]),
      ...(key === null ? [] : [readReference(key)]),
    ],
    deleted: status === "deleted",
  };
}

function refuseMasterKey(named: string, masterKey: Secret): void {
  if (!sameSecret(named, masterKey)) return;
  throw new GatewayError(
    "permission_denied",
    "This cannot be done to the master key: it is in the configuration, and has no budget.",
    {
      param: "key",
    },
  );
}

/** LiteLLM takes a key or its token in these places, never an alias. */
function referenceTo(text: string): KeyReference {
  const reference = readReference(text);
  return reference.kind === "alias" ? noSuchKey() : reference;
}

/** Which of the fields that were sent are kept but do not act, so that nobody relies on them. */
function inactiveFields({ extra = {} }: KeyChange): string {
  const names = Object.keys(extra).filter((name) => /^\w{1,64}$/.test(name) && extra[name] !== null && !acts(name));
  return names.slice(0, 50).join(",");
}
