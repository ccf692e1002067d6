import { fromJson } from "@bufbuild/protobuf";
import { CredentialAdminService, CredentialSchema } from "../../src/gen/tollgate/admin/v1/models_pb.ts";
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
  ["NAME", "name"],
  ["VALUES", "values"],
  ["INFO", "info"],
];
const first = ["name", "values", "info"];
const flags = {
  ...mapFlags("values", 'The parameters, such as {"api_key":"sk-..."}'),
  ...mapFlags("info", "Anything to keep with it"),
};

const service = (call: Call) => call.connect(CredentialAdminService);

/** `tollgate credentials`. */
export const credentials: Resource = {
  summary: "parameters that models share by naming them; their values are encrypted, and shown masked",
  verbs: {
    create: {
      summary: "makes a credential; its values are best in a file",
      args: ["NAME"],
      flags: { ...flags, "from-model": { value: "ID", meaning: "Take the values of this model" }, ...requestIdFlag },
      async run(call) {
        const credential = fromJson(CredentialSchema, {
          ...{ name: call.args[0] ?? "", values: mapOf(call, "values") ?? {}, info: mapOf(call, "info") ?? {} },
        });
        const asked = { modelId: flagValue(call, "from-model"), requestId: flagValue(call, "request-id") };
        const made = await service(call).createCredential({ credential, ...asked });
        return { kind: "thing", thing: jsonOf(CredentialSchema, made.credential), first };
      },
    },
    list: {
      summary: "lists credentials by name",
      args: [],
      flags: limitFlag,
      async run(call) {
        const { rows, more } = await collect(call, async (at) => {
          const page = await service(call).listCredentials(at);
          const found = page.credentials.map((credential) => jsonOf(CredentialSchema, credential));
          return { rows: found, nextPageToken: page.nextPageToken };
        });
        return { kind: "list", rows, more, columns };
      },
    },
    info: {
      summary: "shows a credential",
      args: ["NAME"],
      flags: {},
      async run(call) {
        const { credential } = await service(call).getCredential({ name: call.args[0] ?? "" });
        return { kind: "thing", thing: jsonOf(CredentialSchema, credential), first };
      },
    },
    "of-model": {
      summary: "shows what `create --from-model` would take",
      args: ["ID"],
      flags: {},
      async run(call) {
        const { credential } = await service(call).getModelCredential({ modelId: call.args[0] ?? "" });
        return { kind: "thing", thing: jsonOf(CredentialSchema, credential), first };
      },
    },
    update: {
      summary: "changes a credential for all models that name it; null takes a value away",
      args: ["NAME"],
      flags: { rename: { value: "NAME", meaning: "Another name" }, ...flags, ...etagFlag },
      async run(call) {
        const { message, paths } = mapChange(call, {
          texts: { rename: "name" },
          maps: { values: "values", info: "info" },
        });
        const credential = fromJson(CredentialSchema, { ...message, etag: flagValue(call, "etag") });
        const asked = { name: call.args[0] ?? "", credential, updateMask: { paths } };
        const updated = await service(call).updateCredential(asked);
        return { kind: "thing", thing: jsonOf(CredentialSchema, updated.credential), first };
      },
    },
    delete: {
      summary: "ends a credential; models that name it are not called any more",
      args: ["NAME"],
      flags: {},
      async run(call) {
        await service(call).deleteCredential({ name: call.args[0] ?? "" });
        return { kind: "done", result: { deleted: true }, text: "The credential is deleted." };
      },
    },
  },
};
