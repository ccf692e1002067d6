import { fromJson } from "@bufbuild/protobuf";
import { EntityAdminService, EntityKind, EntitySchema } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { type Call, type Column, collect, flagValue, limitFlag, type Resource, type Verb } from "./command.ts";
import { clearFlag, type FieldFlag, limitFields, readChange, readFields } from "./fields.ts";
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
  return {
    summary: `${name}, with budgets, limits and models of their own`,
    verbs: {
      create: {
        summary: `makes a ${one}`,
        args: [makesId ? "[ID]" : "ID"],
        flags: fields,
        async run(call) {
          const entity = fromJson(EntitySchema, { ...readFields(call, fields), kind, id: call.args[0] ?? "" });
          const made = await service(call).createEntity({ entity });
          return { kind: "thing", thing: jsonOf(EntitySchema, made.entity), first };
        },
      },
      list: {
        summary: `lists ${name}, the newest first`,
        args: [],
        flags: { ...limitFlag, organization: { value: "ID", meaning: "Only those of this organization" } },
        async run(call) {
          const organizationId = flagValue(call, "organization");
          const { rows, more } = await collect(call, async (at) => {
            const page = await service(call).listEntities({ kind, organizationId, ...at });
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
          etag: { value: "ETAG", meaning: "Refuse if it was changed since `info` showed this" },
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

export const teams = entities("teams", EntityKind.TEAM);
export const users = entities("users", EntityKind.USER, userFields);
export const organizations = entities("organizations", EntityKind.ORGANIZATION);
export const customers = entities("customers", EntityKind.CUSTOMER);
export const tags = entities("tags", EntityKind.TAG);
