import { fromJson } from "@bufbuild/protobuf";
import { ModelAdminService, ModelGroupSchema, ModelSchema } from "../../src/gen/tollgate/admin/v1/models_pb.ts";
import {
  type Call,
  type Column,
  collect,
  etagFlag,
  flagValue,
  limitFlag,
  type Resource,
  requestIdFlag,
} from "./command.ts";
import { mapChange, mapFlags, mapOf } from "./map-flags.ts";
import { jsonOf } from "./message-json.ts";

const columns: readonly Column[] = [
  ["ID", "id"],
  ["NAME", "model_name"],
  ["PROVIDER", "provider"],
  ["MODEL", "provider_model"],
  ["IN $/TOKEN", "input_cost_per_token_usd"],
  ["OUT $/TOKEN", "output_cost_per_token_usd"],
  ["STORED", "stored"],
];
const first = ["id", "model_name", "provider", "provider_model", "stored"];
const nameFlag = { name: { value: "NAME", meaning: "What calls name it; models of one name share its calls" } };
const flags = {
  ...nameFlag,
  ...mapFlags("params", 'Its `litellm_params`, such as {"model":"openai/gpt-4o","rpm":5}'),
  ...mapFlags("info", "Its `model_info`, prices for instance"),
};

const service = (call: Call) => call.connect(ModelAdminService);

/** `tollgate models`. */
export const models: Resource = {
  summary: "models in the database, and those of the KeyService's file",
  verbs: {
    create: {
      summary: "makes a model; secrets are best in a file",
      args: ["[ID]"],
      flags: { ...flags, ...requestIdFlag },
      async run(call) {
        const model = fromJson(ModelSchema, {
          ...{ id: call.args[0] ?? "", model_name: flagValue(call, "name") },
          ...{ litellm_params: mapOf(call, "params") ?? {}, model_info: mapOf(call, "info") ?? {} },
        });
        const made = await service(call).createModel({ model, requestId: flagValue(call, "request-id") });
        return { kind: "thing", thing: { ...jsonOf(ModelSchema, made.model), notices: made.notices }, first };
      },
    },
    list: {
      summary: "lists models, the file's first",
      args: [],
      flags: { ...limitFlag, name: { value: "NAME", meaning: "Only those of this name" } },
      async run(call) {
        const modelName = flagValue(call, "name");
        const { rows, more } = await collect(call, async (at) => {
          const page = await service(call).listModels({ modelName, ...at });
          return { rows: page.models.map((model) => jsonOf(ModelSchema, model)), nextPageToken: page.nextPageToken };
        });
        return { kind: "list", rows, more, columns };
      },
    },
    groups: {
      summary: "shows what is known of models of one name together",
      args: ["[NAME]"],
      flags: {},
      async run(call) {
        const { groups } = await service(call).listModelGroups({ name: call.args[0] ?? "" });
        const rows = groups.map((group) => jsonOf(ModelGroupSchema, group));
        const heads: Column[] = [
          ["NAME", "name"],
          ["PROVIDERS", "providers"],
          ["FACTS", "facts"],
        ];
        return { kind: "list", rows, columns: heads, more: false };
      },
    },
    info: {
      summary: "shows a model; secrets are masked",
      args: ["ID"],
      flags: {},
      async run(call) {
        const { model } = await service(call).getModel({ id: call.args[0] ?? "" });
        return { kind: "thing", thing: jsonOf(ModelSchema, model), first };
      },
    },
    update: {
      summary: "changes a model, on every sidecar within a second; null takes a parameter away",
      args: ["ID"],
      flags: { ...flags, ...etagFlag },
      async run(call) {
        const { message, paths } = mapChange(call, {
          texts: { name: "model_name" },
          maps: { params: "litellm_params", info: "model_info" },
        });
        const etag = flagValue(call, "etag");
        const model = fromJson(ModelSchema, { ...message, id: call.args[0] ?? "", etag });
        const updated = await service(call).updateModel({ model, updateMask: { paths } });
        return { kind: "thing", thing: { ...jsonOf(ModelSchema, updated.model), notices: updated.notices }, first };
      },
    },
    delete: {
      summary: "ends a model; calls under way finish",
      args: ["ID"],
      flags: {},
      async run(call) {
        await service(call).deleteModel({ id: call.args[0] ?? "" });
        return { kind: "done", result: { deleted: true }, text: "The model is deleted." };
      },
    },
  },
};
