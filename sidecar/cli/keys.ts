import { fromJson } from "@bufbuild/protobuf";
import { KeyAdminService, KeySchema } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { type Call, type Column, collect, flagValue, limitFlag, type Resource } from "./command.ts";
import { clearFlag, keyFields, readChange, readFields } from "./fields.ts";
import { jsonOf } from "./message-json.ts";

const columns: readonly Column[] = [
  ["ID", "id"],
  ["ALIAS", "alias"],
  ["KEY", "masked"],
  ["TEAM", "team_id"],
  ["USER", "user_id"],
  ["SPENT $", "spent_usd"],
  ["BUDGET $", "max_budget_usd"],
  ["PERIOD", "budget_duration"],
  ["BLOCKED", "blocked"],
];
const first = ["id", "alias", "masked", "blocked", "spent_usd", "reserved_usd", "max_budget_usd", "budget_duration"];

const service = (call: Call) => call.connect(KeyAdminService);
const keyArg = "KEY";

/** `tollgate keys`. */
export const keys: Resource = {
  summary: "virtual keys; KEY is an id, an alias or the key itself",
  verbs: {
    create: {
      summary: "makes a key and prints it, this once",
      args: [],
      flags: {
        ...keyFields,
        duration: { value: "30d", meaning: "How long it works from now" },
      },
      async run(call) {
        const key = fromJson(KeySchema, readFields(call, keyFields));
        const made = await service(call).createKey({ key, duration: flagValue(call, "duration") });
        return {
          kind: "thing",
          thing: { ...jsonOf(KeySchema, made.key), secret: made.secret },
          first: ["secret", ...first],
        };
      },
    },
    list: {
      summary: "lists keys, the newest first",
      args: [],
      flags: {
        ...limitFlag,
        team: { value: "ID", meaning: "Only keys of this team" },
        user: { value: "ID", meaning: "Only keys of this user" },
      },
      async run(call) {
        const filter = { teamId: flagValue(call, "team"), userId: flagValue(call, "user") };
        const { rows, more } = await collect(call, async (at) => {
          const { keys: found, nextPageToken } = await service(call).listKeys({ ...filter, ...at });
          return { rows: found.map((key) => jsonOf(KeySchema, key)), nextPageToken };
        });
        return { kind: "list", rows, more, columns };
      },
    },
    info: {
      summary: "shows a key, with what it has spent",
      args: [keyArg],
      flags: {},
      async run(call) {
        const [key = ""] = call.args;
        return { kind: "thing", thing: jsonOf(KeySchema, (await service(call).getKey({ key })).key), first };
      },
    },
    update: {
      summary: "changes a key; what no flag names stays",
      args: [keyArg],
      flags: {
        ...keyFields,
        ...clearFlag,
        etag: { value: "ETAG", meaning: "Refuse if it was changed since `info` showed this" },
      },
      async run(call) {
        const [id = ""] = call.args;
        const { message, paths } = readChange(call, keyFields);
        const key = fromJson(KeySchema, { ...message, id, etag: flagValue(call, "etag") });
        const updated = await service(call).updateKey({ key, updateMask: { paths } });
        return { kind: "thing", thing: jsonOf(KeySchema, updated.key), first };
      },
    },
    rotate: {
      summary: "gives it another secret and prints that, this once",
      args: [keyArg],
      flags: {
        "grace-period": { value: "24h", meaning: "How long the secret of before still works (default: not at all)" },
        duration: { value: "30d", meaning: "How long the key works from now (default: as before)" },
      },
      async run(call) {
        const [key = ""] = call.args;
        const asked = { key, gracePeriod: flagValue(call, "grace-period"), duration: flagValue(call, "duration") };
        const { key: rotated, secret } = await service(call).rotateKey(asked);
        return { kind: "thing", thing: { ...jsonOf(KeySchema, rotated), secret }, first: ["secret", ...first] };
      },
    },
    "reset-spend": {
      summary: "sets back what its budgets count as used; what was spent stays in the books",
      args: [keyArg],
      flags: { to: { value: "USD", meaning: "What counts as used from now on (default 0)" } },
      async run(call) {
        const [key = ""] = call.args;
        const { key: reset } = await service(call).resetKeyBudget({ key, resetToUsd: flagValue(call, "to") });
        return { kind: "thing", thing: jsonOf(KeySchema, reset), first };
      },
    },
    block: {
      summary: "refuses its calls, on every sidecar within a second",
      args: [keyArg],
      flags: {},
      async run(call) {
        const [key = ""] = call.args;
        return { kind: "thing", thing: jsonOf(KeySchema, (await service(call).blockKey({ key })).key), first };
      },
    },
    unblock: {
      summary: "lets it work again",
      args: [keyArg],
      flags: {},
      async run(call) {
        const [key = ""] = call.args;
        return { kind: "thing", thing: jsonOf(KeySchema, (await service(call).unblockKey({ key })).key), first };
      },
    },
    delete: {
      summary: "ends it for good; its spend stays in the books",
      args: [keyArg],
      flags: {},
      async run(call) {
        const [key = ""] = call.args;
        await service(call).deleteKey({ key });
        return { kind: "done", result: { deleted: true }, text: "The key is deleted." };
      },
    },
  },
};
