import { create, fromJson } from "@bufbuild/protobuf";
import { EntityAdminService, type EntityKind, MemberSchema } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { type Call, type Column, flagValue, type Verb } from "./command.ts";
import { clearFlag, type FieldFlag, limitFields, readChange, readFields } from "./fields.ts";
import { jsonOf } from "./message-json.ts";

const columns: readonly Column[] = [
  ["USER", "user_id"],
  ["ROLE", "role"],
  ["SPENT $", "spent_usd"],
  ["BUDGET $", "max_budget_usd"],
  ["PERIOD", "budget_duration"],
];
const first = ["entity_id", "user_id", "role", "spent_usd", "max_budget_usd", "budget_duration"];

const roleField: Readonly<Record<string, FieldFlag>> = {
  role: { field: "role", value: "ROLE", meaning: "What they are there (default user)", read: ([value = ""]) => value },
};
const budgetNames = ["max-budget", "budget-duration", "budget-id", "rpm-limit", "tpm-limit"];
const budgetFields = Object.fromEntries(Object.entries(limitFields).filter(([name]) => budgetNames.includes(name)));

const service = (call: Call) => call.connect(EntityAdminService);

/** The verbs for who is a member of a team or an organization. Budgets of members hold in teams only. */
export function memberVerbs(kind: EntityKind, one: "team" | "organization"): Readonly<Record<string, Verb>> {
  const placeArg = one.toUpperCase();
  const fields = one === "team" ? { ...roleField, ...budgetFields } : roleField;
  const verbs: Record<string, Verb> = {
    members: {
      summary: `lists the members of a ${one}, the oldest first`,
      args: [placeArg],
      flags: {},
      async run(call) {
        const { members } = await service(call).listMembers({ kind, entityId: call.args[0] ?? "" });
        return { kind: "list", rows: members.map((member) => jsonOf(MemberSchema, member)), columns, more: false };
      },
    },
    "add-members": {
      summary: "makes users members, all or none; those that are already are changed",
      args: [placeArg, "USER..."],
      flags: fields,
      async run(call) {
        const [entity_id = "", ...userIds] = call.args;
        const set = readFields(call, fields);
        const members = userIds.map((user_id) => fromJson(MemberSchema, { ...set, kind, entity_id, user_id }));
        const added = await service(call).addMembers({ members });
        const rows = added.members.map((member) => jsonOf(MemberSchema, member));
        return { kind: "list", rows, columns, more: false };
      },
    },
    "update-member": {
      summary: "changes a membership; what no flag names stays",
      args: [placeArg, "USER"],
      flags: { ...fields, ...clearFlag },
      async run(call) {
        const [entity_id = "", user_id = ""] = call.args;
        const { message, paths } = readChange(call, fields);
        const member = fromJson(MemberSchema, { ...message, kind, entity_id, user_id });
        const updated = await service(call).updateMember({ member, updateMask: { paths } });
        return { kind: "thing", thing: jsonOf(MemberSchema, updated.member), first };
      },
    },
    "remove-member": {
      summary: "ends a membership",
      args: [placeArg, "USER"],
      flags: {},
      async run(call) {
        const [entityId = "", userId = ""] = call.args;
        await service(call).removeMember({ kind, entityId, userId });
        return { kind: "done", result: { removed: true }, text: `The user is no member of the ${one} any more.` };
      },
    },
  };
  if (one === "organization") return verbs;
  return {
    ...verbs,
    "reset-member-spend": {
      summary: "sets back what a member's budget counts as used; what was spent stays in the books",
      args: [placeArg, "USER"],
      flags: { to: { value: "USD", meaning: "What counts as used from now on (default 0)" } },
      async run(call) {
        const [teamId = "", userId = ""] = call.args;
        const { member } = await service(call).resetMemberBudget({
          ...{ teamId, userId, resetToUsd: flagValue(call, "to") },
        });
        return { kind: "thing", thing: jsonOf(MemberSchema, member ?? create(MemberSchema)), first };
      },
    },
  };
}
