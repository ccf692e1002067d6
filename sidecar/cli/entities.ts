import { fromJson } from "@bufbuild/protobuf";
import { EntityAdminService, EntityKind, EntitySchema } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { KeySchema } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { batchAnswer } from "./batch.ts";
import {
  type Answer,
  type Call,
  type Column,
  collect,
  etagFlag,
  type Flags,
  flagValue,
  limitFlag,
  type Resource,
  requestIdFlag,
  UsageError,
  type Verb,
} from "./command.ts";
import { clearFlag, type FieldFlag, limitFields, readChange, readFields } from "./fields.ts";
import { memberVerbs } from "./members.ts";
import { jsonOf } from "./message-json.ts";

const columns: readonly Column[] = [
  ["ID", "id"],
  ["ALIAS", "alias"],
  ["ORGANIZATION", "organization_id"],
  ["SPENT $", "spent_usd"],
  ["BUDGET $", "max_budget_usd"],
  ["PERIOD", "budget_duration"],
  ["BLOCKED", "blocked"],
];
const first = ["id", "alias", "blocked", "spent_usd", "reserved_usd", "max_budget_usd", "budget_duration"];

const userFields: Readonly<Record<string, FieldFlag>> = {
  ...limitFields,
  email: { field: "email", value: "ADDRESS", meaning: "Where they are reached", read: ([value = ""]) => value },
  role: {
    field: "role",
    value: "ROLE",
    meaning: "What they may administer: proxy_admin, internal_user, ...",
    read: ([value = ""]) => value,
  },
};

const service = (call: Call) => call.connect(EntityAdminService);

/** A command for each kind of entity: they differ in name and fields only. */
function entities(name: string, kind: EntityKind, fields: Readonly<Record<string, FieldFlag>> = limitFields): Resource {
  const one = name.slice(0, -1);
  const idArg = one.toUpperCase();
  const makesId = kind !== EntityKind.CUSTOMER && kind !== EntityKind.TAG;
  const simple = (summary: string, run: (call: Call, id: string) => ReturnType<Verb["run"]>): Verb => ({
    ...{ summary, args: [idArg], flags: {} },
    run: (call) => run(call, call.args[0] ?? ""),
  });
  const inPlaces = kind === EntityKind.TEAM || kind === EntityKind.ORGANIZATION;
  const creationFlags: Flags = {
    ...fields,
    ...requestIdFlag,
    ...(inPlaces && { member: { value: "USER=ROLE", multiple: true, meaning: "A member to be made with it" } }),
    ...(kind === EntityKind.USER && {
      team: { value: "ID", multiple: true, meaning: "A team they are a member of" },
      key: { meaning: "Make a key of their own too, and print it, this once" },
    }),
  };
  return {
    summary: `${name}, with budgets, limits and models of their own`,
    verbs: {
      create: {
        summary: `makes a ${one}`,
        args: [makesId ? "[ID]" : "ID"],
        flags: creationFlags,
        async run(call) {
          const entity = fromJson(EntitySchema, { ...readFields(call, fields), kind, id: call.args[0] ?? "" });
          const made = await service(call).createEntity({
            ...{ entity, members: membersOf(call), requestId: flagValue(call, "request-id") },
            ...(call.flags.has("key") && { key: {} }),
          });
          const thing = jsonOf(EntitySchema, made.entity);
          if (made.key === undefined) return { kind: "thing", thing, first };
          const own = { key: jsonOf(KeySchema, made.key), secret: made.secret };
          return { kind: "thing", thing: { ...thing, ...own }, first: ["secret", ...first] };
        },
      },
      list: {
        summary: `lists ${name}, the newest first`,
        args: [],
        flags: {
          ...limitFlag,
          organization: { value: "ID", meaning: "Only those of this organization" },
          ...(inPlaces && { user: { value: "ID", meaning: "Only those this user is a member of" } }),
          ...(kind === EntityKind.TEAM && { joinable: { meaning: "Only those you may join" } }),
        },
        async run(call) {
          const filter = {
            ...{ organizationId: flagValue(call, "organization"), memberId: flagValue(call, "user") },
            joinable: call.flags.has("joinable"),
          };
          const { rows, more } = await collect(call, async (at) => {
            const page = await service(call).listEntities({ kind, ...filter, ...at });
            return {
              rows: page.entities.map((entity) => jsonOf(EntitySchema, entity)),
              nextPageToken: page.nextPageToken,
            };
          });
          return { kind: "list", rows, more, columns };
        },
      },
      info: simple(`shows a ${one}, with what was spent`, async (call, id) => {
        const { entity } = await service(call).getEntity({ kind, id });
        return { kind: "thing", thing: jsonOf(EntitySchema, entity), first };
      }),
      update: {
        summary: `changes a ${one}; what no flag names stays`,
        args: [idArg],
        flags: {
          ...fields,
          ...clearFlag,
          ...etagFlag,
        },
        async run(call) {
          const { message, paths } = readChange(call, fields);
          const entity = fromJson(EntitySchema, {
            ...message,
            kind,
            id: call.args[0] ?? "",
            etag: flagValue(call, "etag"),
          });
          const updated = await service(call).updateEntity({ entity, updateMask: { paths } });
          return { kind: "thing", thing: jsonOf(EntitySchema, updated.entity), first };
        },
      },
      "update-many": {
        summary: `changes several ${name}, each for itself`,
        args: [`[${idArg}...]`],
        flags: { ...fields, ...clearFlag, all: { meaning: `All ${name} there are` } },
        async run(call) {
          const { message, paths } = readChange(call, fields);
          const isForAll = call.flags.has("all");
          if (isForAll === call.args.length > 0) throw new UsageError(`write either ids of ${name}, or --all`);
          const of = (id: string) => ({
            entity: fromJson(EntitySchema, { ...message, kind, id }),
            updateMask: { paths },
          });
          const asked = isForAll ? { all: of("") } : { requests: call.args.map(of) };
          const { results } = await service(call).batchUpdateEntities(asked);
          return batchAnswer(
            results.map(({ id, entity, refusal }) => ({ id, refusal, done: entity && jsonOf(EntitySchema, entity) })),
          );
        },
      },
      "add-models": {
        summary: "lets it use models besides those it may use",
        args: [idArg, "MODEL..."],
        flags: {},
        run: (call) => changeModels(call, kind, "add"),
      },
      "remove-models": {
        summary: "takes models away; a list that is empty then means all",
        args: [idArg, "MODEL..."],
        flags: {},
        run: (call) => changeModels(call, kind, "remove"),
      },
      ...(inPlaces && memberVerbs(kind, kind === EntityKind.TEAM ? "team" : "organization")),
      block: simple(
        "refuses the calls of all that belongs to it, on every sidecar within a second",
        async (call, id) => {
          const { entity } = await service(call).blockEntity({ kind, id });
          return { kind: "thing", thing: jsonOf(EntitySchema, entity), first };
        },
      ),
      unblock: simple("lets them work again", async (call, id) => {
        const { entity } = await service(call).unblockEntity({ kind, id });
        return { kind: "thing", thing: jsonOf(EntitySchema, entity), first };
      }),
      delete: simple(
        `ends it${kind === EntityKind.TEAM ? " and its keys" : ""}; its spend stays in the books`,
        async (call, id) => {
          await service(call).deleteEntity({ kind, id });
          return { kind: "done", result: { deleted: true }, text: `The ${one} is deleted.` };
        },
      ),
    },
  };
}

async function changeModels(call: Call, kind: EntityKind, change: "add" | "remove"): Promise<Answer> {
  const [id = "", ...models] = call.args;
  const { entity } = await service(call).changeEntityModels({ kind, id, [change]: models });
  return { kind: "thing", thing: jsonOf(EntitySchema, entity), first };
}

/** `--member USER=ROLE` of what has members, `--team ID` of a user. */
function membersOf(call: Call): { id: string; role: string }[] {
  const written = [...(call.flags.get("member") ?? []), ...(call.flags.get("team") ?? [])];
  return written.map((text) => {
    const [, id = text, role = ""] = call.flags.has("member") ? (/^(.+)=(\w+)$/.exec(text) ?? []) : [];
    return { id, role };
  });
}

export const teams = entities("teams", EntityKind.TEAM);
export const users = entities("users", EntityKind.USER, userFields);
export const organizations = entities("organizations", EntityKind.ORGANIZATION);
export const customers = entities("customers", EntityKind.CUSTOMER);
export const tags = entities("tags", EntityKind.TAG);
