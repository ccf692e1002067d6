import { fromJson } from "@bufbuild/protobuf";
import { KeyAdminService, KeySchema } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { batchAnswer } from "./batch.ts";
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
import { clearFlag, keyFields, readChange, readFields } from "./fields.ts";
import { textIn } from "./map-flags.ts";
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

function ownersOf(call: Call) {
  return {
    ...{ teamId: flagValue(call, "team"), userId: flagValue(call, "user") },
    organizationId: flagValue(call, "organization"),
  };
}

/** "" if none was given: one is made. @throws UsageError */
function secretOf(call: Call): string {
  const file = call.flags.get("secret-file")?.at(-1);
  return file === undefined ? "" : textIn("secret-file", file).trim();
}

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
        "secret-file": { value: "FILE", meaning: "A file with a secret of your own; - is standard input" },
        "of-service": { meaning: "It is for a service of its team, and no user's" },
        ...requestIdFlag,
      },
      async run(call) {
        const key = fromJson(KeySchema, readFields(call, keyFields));
        const made = await service(call).createKey({
          ...{ key, duration: flagValue(call, "duration"), secret: secretOf(call) },
          ...{ ofService: call.flags.has("of-service"), requestId: flagValue(call, "request-id") },
        });
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
        organization: { value: "ID", meaning: "Only keys of this organization" },
        alias: { value: "NAME", meaning: "Only the key with this alias" },
        deleted: { meaning: "Deleted keys instead of living ones" },
      },
      async run(call) {
        const filter = {
          ...ownersOf(call),
          ...{ alias: flagValue(call, "alias"), showDeleted: call.flags.has("deleted") },
        };
        const { rows, more } = await collect(call, async (at) => {
          const { keys: found, nextPageToken } = await service(call).listKeys({ ...filter, ...at });
          return { rows: found.map((key) => jsonOf(KeySchema, key)), nextPageToken };
        });
        return { kind: "list", rows, more, columns };
      },
    },
    aliases: {
      summary: "lists the aliases of keys, by the alphabet",
      args: [],
      flags: {
        ...limitFlag,
        team: { value: "ID", meaning: "Only of keys of this team" },
        user: { value: "ID", meaning: "Only of keys of this user" },
        organization: { value: "ID", meaning: "Only of keys of this organization" },
      },
      async run(call) {
        const { rows, more } = await collect(call, async (at) => {
          const { aliases, nextPageToken } = await service(call).listKeyAliases({ ...ownersOf(call), ...at });
          return { rows: aliases.map((alias) => ({ alias })), nextPageToken };
        });
        return { kind: "list", rows, more, columns: [["ALIAS", "alias"]] };
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
        ...etagFlag,
      },
      async run(call) {
        const [id = ""] = call.args;
        const { message, paths } = readChange(call, keyFields);
        const key = fromJson(KeySchema, { ...message, id, etag: flagValue(call, "etag") });
        const updated = await service(call).updateKey({ key, updateMask: { paths } });
        return { kind: "thing", thing: jsonOf(KeySchema, updated.key), first };
      },
    },
    "update-many": {
      summary: "changes several keys, each for itself",
      args: ["KEY..."],
      flags: { ...keyFields, ...clearFlag },
      async run(call) {
        const { message, paths } = readChange(call, keyFields);
        const requests = call.args.map((id) => ({
          key: fromJson(KeySchema, { ...message, id }),
          updateMask: { paths },
        }));
        const { results } = await service(call).batchUpdateKeys({ requests });
        return batchAnswer(
          results.map(({ key, refusal }, index) => ({
            ...{ id: call.args[index] ?? "", refusal, done: key && jsonOf(KeySchema, key) },
          })),
        );
      },
    },
    rotate: {
      summary: "gives it another secret and prints that, this once; other flags change it as well",
      args: [keyArg],
      flags: {
        ...keyFields,
        ...clearFlag,
        ...etagFlag,
        "secret-file": { value: "FILE", meaning: "A file with a secret of your own; - is standard input" },
        "grace-period": { value: "24h", meaning: "How long the secret of before still works (default: not at all)" },
        duration: { value: "30d", meaning: "How long the key works from now (default: as before)" },
      },
      async run(call) {
        const [key = ""] = call.args;
        const { message, paths } = readChange(call, keyFields, true);
        const { key: rotated, secret } = await service(call).rotateKey({
          ...{ key, gracePeriod: flagValue(call, "grace-period"), duration: flagValue(call, "duration") },
          ...{ changes: fromJson(KeySchema, { ...message, etag: flagValue(call, "etag") }), updateMask: { paths } },
          secret: secretOf(call),
        });
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
