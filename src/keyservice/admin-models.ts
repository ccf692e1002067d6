/** The gRPC face of models and credentials. */

import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type CredentialAdminService,
  CredentialSchema,
  type ModelAdminService,
} from "../gen/tollgate/admin/v1/models_pb.ts";
import type { AdminParts } from "./admin.ts";
import { modelGroupRow, providersOf } from "./http-model-rows.ts";
import { invalid } from "./key-fields.ts";
import {
  credentialChangeOf,
  credentialMessageOf,
  credentialRpcNames,
  modelChangeOf,
  modelMessageOf,
  modelRpcNames,
} from "./model-messages.ts";
import type { Written } from "./models.ts";
import { pageSizeOf, readPageToken, writePageToken } from "./page-token.ts";
import { maskedParams, merged } from "./secret-params.ts";
import { uuidForm } from "./spend-reader.ts";

const nameCharsMax = 256;
const offsetForm = /^\d{1,9}$/;

/** Makes the implementation of ModelAdminService. */
export function modelAdmin({ models, clock }: AdminParts): ServiceImpl<typeof ModelAdminService> {
  const names = modelRpcNames;
  const written = ({ model, notices }: Written) => ({
    model: modelMessageOf(model, clock.nowMs()),
    notices: [...notices],
  });
  return {
    async createModel({ model, requestId }) {
      if (model === undefined) throw invalid("model", "is missing.");
      checkRequestId(requestId);
      const { name = "", params = {}, info = {} } = modelChangeOf(model, []);
      // A repeated request makes the same id of its own id.
      const id = model.id || requestId.toLowerCase() || randomUUID();
      const fields = { name, params: merged({}, params), info: merged({}, info) };
      return written(await models.create({ id, fields, names, requestId: requestId || undefined }));
    },
    async getModel({ id }) {
      return { model: modelMessageOf(await models.get(id), clock.nowMs()) };
    },
    async updateModel({ model, updateMask }) {
      if (model === undefined || model.id === "") throw invalid("model.id", "must name the model.");
      const change = modelChangeOf(model, updateMask?.paths ?? []);
      return written(await models.update(model.id, change, { names, etag: model.etag || undefined }));
    },
    async deleteModel({ id }) {
      await models.delete(id);
      return {};
    },
    async listModelGroups({ name }) {
      const groups = Map.groupBy(await models.list(), (model) => model.name);
      const wanted = [...groups].filter(([group]) => name === "" || group === name);
      return {
        groups: wanted.map(([group, members]) => {
          const { model_group: _, providers: __, ...facts } = modelGroupRow(group, members, clock.nowMs());
          return { name: group, providers: providersOf(members, clock.nowMs()), facts };
        }),
      };
    },
    async listModels({ pageSize, pageToken, modelName }) {
      const found = (await models.list()).filter(({ name }) => modelName === "" || name === modelName);
      const { page, ...rest } = pageOf(found, { pageSize, pageToken }, [modelName]);
      return { models: page.map((model) => modelMessageOf(model, clock.nowMs())), ...rest };
    },
  };
}

/** Makes the implementation of CredentialAdminService. */
export function credentialAdmin(parts: AdminParts): ServiceImpl<typeof CredentialAdminService> {
  const { credentials, models } = parts;
  const names = credentialRpcNames;
  return {
    async createCredential({ credential, modelId, requestId }) {
      if (credential === undefined) throw invalid("credential", "is missing.");
      checkRequestId(requestId);
      const given = merged({}, credential.values ?? {});
      const values = modelId === "" ? given : (await models.lendable(modelId)).values;
      const made = await credentials.create({
        name: credential.name,
        ...{ values, info: merged({}, credential.info ?? {}) },
        names,
        ...(requestId === "" ? {} : { requestId: requestId.toLowerCase() }),
      });
      return { credential: credentialMessageOf(made) };
    },
    async getCredential({ name }) {
      return { credential: credentialMessageOf(await credentials.get(name)) };
    },
    async updateCredential({ name, credential, updateMask }) {
      if (credential === undefined) throw invalid("credential", "is missing.");
      const change = credentialChangeOf(credential, updateMask?.paths ?? []);
      const updated = await credentials.update(name, change, { names, etag: credential.etag || undefined });
      return { credential: credentialMessageOf(updated) };
    },
    async getModelCredential({ modelId }) {
      const { name, values } = await models.lendable(modelId);
      return {
        credential: create(CredentialSchema, {
          name: `${name}-credential-${modelId}`.slice(0, nameCharsMax),
          values: maskedParams(values),
        }),
      };
    },
    async deleteCredential({ name }) {
      await credentials.delete(name);
      return {};
    },
    async listCredentials({ pageSize, pageToken }) {
      const { page, ...rest } = pageOf(await credentials.list(), { pageSize, pageToken }, []);
      return { credentials: page.map(credentialMessageOf), ...rest };
    },
  };
}

function checkRequestId(requestId: string): void {
  if (requestId !== "" && !uuidForm.test(requestId)) throw invalid("request_id", "must be a UUID.");
}

function pageOf<Item>(
  items: readonly Item[],
  { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
  filter: readonly string[],
): { page: readonly Item[]; nextPageToken: string; totalCount: bigint } {
  const [place = "0"] = readPageToken(pageToken, filter, [offsetForm]) ?? [];
  const offset = Number(place);
  const page = items.slice(offset, offset + pageSizeOf(pageSize));
  const next = offset + page.length;
  return {
    page,
    nextPageToken: next < items.length ? writePageToken(filter, [String(next)]) : "",
    totalCount: BigInt(items.length),
  };
}
