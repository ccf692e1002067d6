/** LiteLLM's /model/*, /model_group/* and /credentials endpoints. */

import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { AdminParts } from "./admin.ts";
import { bodyFields, readBody } from "./http-key-body.ts";
import { knownInfo, modelGroupRow, modelInfoRow, modelRow } from "./http-model-rows.ts";
import { wholeNumber } from "./http-query.ts";
import { type ManagementRoutes, noteEtag, type RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import type { ModelRecord } from "./model-records.ts";
import { type ModelChange, type ModelNames, modelEtag, type Written } from "./models.ts";
import { merged } from "./secret-params.ts";

const names: ModelNames = {
  id: "model_info.id",
  name: "model_name",
  params: "litellm_params",
  info: "model_info",
};

const text = z.string("must be a string.");
const modelBody = z.looseObject({
  model_name: text.nullish(),
  litellm_params: bodyFields.metadata,
  model_info: bodyFields.metadata,
});
const deleteBody = z.looseObject({ id: text });
/** Of `model_info`, what says which model it is and whence, not what it is. */
const notInfo = new Set(["id", "db_model", "created_at", "updated_at", "created_by", "updated_by"]);
const sortable: Readonly<Record<string, (model: ModelRecord) => string | number>> = {
  model_name: ({ name }) => name,
  created_at: ({ createdAtMs = 0 }) => createdAtMs,
  updated_at: ({ updatedAtMs = 0 }) => updatedAtMs,
};

/** The routes, by path. */
export const modelRoutes: ManagementRoutes = {
  "/model/new": { method: "POST", access: "admin", heeds: "idempotency-key", answer: newModel },
  "/model/update": { method: "POST", access: "admin", heeds: "if-match", answer: updateModel },
  "/model/{model_id}/update": {
    ...{ method: ["PATCH", "POST"], access: "admin", heeds: "if-match", answer: patchModel },
  },
  "/model/delete": { method: "POST", access: "admin", answer: deleteModel },
  "/model/info": { method: "GET", access: "scoped", answer: modelInfo },
  "/v1/model/info": { method: "GET", access: "scoped", answer: modelInfo },
  "/v2/model/info": { method: "GET", access: "scoped", answer: modelPage },
  "/model_group/info": { method: "GET", access: "scoped", answer: modelGroups },
};

async function newModel({ models }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const body = readBody(modelBody, await request.body());
  if (body.model_name == null) throw invalid("model_name", "is missing.");
  if (body.litellm_params == null) throw invalid("litellm_params", "is missing.");
  const id = body.model_info?.id ?? randomUUID();
  if (typeof id !== "string") throw invalid(names.id, "must be a string.");
  const params = merged({}, body.litellm_params);
  const info = merged({}, infoIn(body.model_info ?? {}));
  const fields = { name: body.model_name, params, info };
  return rowOf(request, await models.create({ id, fields, names, requestId: request.requestId }));
}

async function updateModel({ models, clock }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const body = readBody(modelBody, await request.body());
  const id = body.model_info?.id;
  if (typeof id !== "string" || id === "") throw invalid(names.id, "is missing: it says which model.");
  return asBadRequest(async () => {
    const change = changeIn(body, await models.get(id), clock.nowMs());
    return rowOf(request, await models.update(id, change, { names, etag: request.etag }));
  });
}

async function patchModel({ models, clock }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { model_id: id = "" } = request.path;
  const body = readBody(modelBody, await request.body());
  const change = changeIn(body, await models.get(id), clock.nowMs());
  return rowOf(request, await models.update(id, change, { names, etag: request.etag }));
}

async function deleteModel({ models }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const { id } = readBody(deleteBody, await request.body());
  return asBadRequest(async () => {
    await models.delete(id);
    return { message: `Model: ${id} deleted successfully` };
  });
}

async function modelInfo({ models, clock }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const id = request.query.get("litellm_model_id");
  const found = await asBadRequest(async () => (id === null ? await models.list() : [await models.get(id)]));
  const [one] = found;
  if (id !== null && one?.isStored) noteEtag(request, modelEtag(one));
  return { data: found.map((model) => modelInfoRow(model, clock.nowMs())) };
}

async function modelPage({ models, clock }: AdminParts, { query }: RouteRequest): Promise<JsonObject> {
  const page = wholeNumber(query, "page", { min: 1, max: 1_000_000, otherwise: 1 });
  const size = wholeNumber(query, "size", { min: 1, max: 1_000, otherwise: 50 });
  const [name, search, id] = [query.get("model"), query.get("search")?.toLowerCase(), query.get("modelId")];
  const found = (await models.list()).filter(
    (model) =>
      (name === null || model.name === name) &&
      (search === undefined || model.name.toLowerCase().includes(search)) &&
      (id === null || model.id === id),
  );
  const sorted = inOrder(found, query.get("sortBy"), query.get("sortOrder"));
  return {
    data: sorted.slice((page - 1) * size, page * size).map((model) => modelInfoRow(model, clock.nowMs())),
    total_count: found.length,
    current_page: page,
    total_pages: Math.ceil(found.length / size),
    size,
  };
}

async function modelGroups({ models, clock }: AdminParts, { query }: RouteRequest): Promise<JsonObject> {
  const asked = query.get("model_group");
  const groups = Map.groupBy(await models.list(), ({ name }) => name);
  const wanted = [...groups].filter(([name]) => asked === null || asked === name);
  return { data: wanted.map(([name, members]) => modelGroupRow(name, members, clock.nowMs())) };
}

function inOrder(models: readonly ModelRecord[], by: string | null, order: string | null): readonly ModelRecord[] {
  if (by === null) return models;
  const key = Object.hasOwn(sortable, by) ? sortable[by] : undefined;
  if (key === undefined) throw invalid("sortBy", `must be one of ${Object.keys(sortable).join(", ")}.`);
  const [less, more] = order === "desc" ? [1, -1] : [-1, 1];
  return models.toSorted((a, b) => (key(a) < key(b) ? less : key(a) > key(b) ? more : 0));
}

/** What is sent back of what was known anyway is not said by the operator, and would not follow when it changes. */
function changeIn(body: z.output<typeof modelBody>, current: ModelRecord, nowMs: number): ModelChange {
  const known = knownInfo(current, nowMs);
  const info = Object.entries(infoIn(body.model_info ?? {})).filter(
    ([key, value]) => Object.hasOwn(current.info, key) || !isDeepStrictEqual(known[key], value),
  );
  return {
    ...(body.model_name == null ? {} : { name: body.model_name }),
    ...(body.litellm_params == null ? {} : { params: body.litellm_params }),
    ...(info.length === 0 ? {} : { info: Object.fromEntries(info) }),
  };
}

function infoIn(info: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(info).filter(([key]) => !notInfo.has(key)));
}

function rowOf(request: RouteRequest, { model, notices }: Written): JsonObject {
  noteEtag(request, modelEtag(model));
  return { ...modelRow(model), ...(notices.length === 0 ? {} : { notices: [...notices] }) };
}

/** LiteLLM answers 400 here for a model it does not know. */
async function asBadRequest<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== "not_found") throw error;
    throw new GatewayError("invalid_request", error.message, error.facts);
  }
}
