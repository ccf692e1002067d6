/** LiteLLM's /credentials endpoints. */

import { z } from "zod";
import type { JsonObject } from "../completion.ts";
import type { AdminParts } from "./admin.ts";
import { type CredentialNames, credentialEtag } from "./credentials.ts";
import { bodyFields, readBody } from "./http-key-body.ts";
import { credentialRow } from "./http-model-rows.ts";
import { type ManagementRoutes, noteEtag, type RouteRequest } from "./http-route.ts";
import { invalid } from "./key-fields.ts";
import { maskedParams } from "./secret-params.ts";

const names: CredentialNames = {
  name: "credential_name",
  values: "credential_values",
  info: "credential_info",
};

const text = z.string("must be a string.").nullish();
const credentialBody = z.looseObject({
  credential_name: text,
  credential_values: bodyFields.metadata,
  credential_info: bodyFields.metadata,
  model_id: text,
});

/** The routes, by path. */
export const credentialRoutes: ManagementRoutes = {
  "/credentials": {
    method: ["GET", "POST"],
    access: "admin",
    heeds: "idempotency-key",
    answer: (parts, request) => (request.method === "GET" ? list(parts) : create(parts, request)),
  },
  "/credentials/by_name/{credential_name}": { method: "GET", access: "admin", answer: byName },
  "/credentials/by_model/{model_id}": { method: "GET", access: "admin", answer: byModel },
  "/credentials/{credential_name}": {
    method: ["GET", "PATCH", "PUT", "DELETE"],
    access: "admin",
    heeds: "if-match",
    answer: (parts, request) => {
      if (request.method === "PATCH" || request.method === "PUT") return update(parts, request);
      if (request.etag !== undefined) throw invalid("if-match", "is heeded by PATCH and PUT only.");
      return request.method === "DELETE" ? remove(parts, request) : byName(parts, request);
    },
  },
};

async function create({ credentials, models }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const body = readBody(credentialBody, await request.body());
  const { credential_name: name, credential_info: info, model_id: modelId } = body;
  if (name == null) throw invalid(names.name, "is missing.");
  const values = modelId == null ? body.credential_values : (await models.lendable(modelId)).values;
  if (values == null) throw invalid(names.values, "is missing; or give `model_id`, to take those of a model.");
  const { requestId } = request;
  noteEtag(request, credentialEtag(await credentials.create({ name, values, info: info ?? {}, names, requestId })));
  return { success: true, message: "Credential created successfully" };
}

async function list({ credentials }: AdminParts): Promise<JsonObject> {
  return { success: true, credentials: (await credentials.list()).map(credentialRow) };
}

async function byName({ credentials }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const found = await credentials.get(request.path.credential_name ?? "");
  noteEtag(request, credentialEtag(found));
  return credentialRow(found);
}

async function byModel({ models }: AdminParts, { path }: RouteRequest): Promise<JsonObject> {
  const { model_id: id = "" } = path;
  const { name, values } = await models.lendable(id);
  return {
    credential_name: `${name}-credential-${id}`,
    credential_values: maskedParams(values),
    credential_info: {},
  };
}

async function update({ credentials }: AdminParts, request: RouteRequest): Promise<JsonObject> {
  const body = readBody(credentialBody, await request.body());
  const change = {
    ...(body.credential_name == null ? {} : { name: body.credential_name }),
    ...(body.credential_values == null ? {} : { values: body.credential_values }),
    ...(body.credential_info == null ? {} : { info: body.credential_info }),
  };
  const { etag, path } = request;
  const changed = await credentials.update(path.credential_name ?? "", change, { names, etag });
  noteEtag(request, credentialEtag(changed));
  return { success: true, message: "Credential updated successfully" };
}

async function remove({ credentials }: AdminParts, { path }: RouteRequest): Promise<JsonObject> {
  await credentials.delete(path.credential_name ?? "");
  return { success: true, message: "Credential deleted successfully" };
}
