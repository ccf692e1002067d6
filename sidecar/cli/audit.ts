import { AuditAction, AuditAdminService, AuditRecordSchema } from "../../src/gen/tollgate/admin/v1/audit_pb.ts";
import { type Column, collect, flagValue, limitFlag, type Resource, UsageError } from "./command.ts";
import { jsonOf } from "./message-json.ts";

const columns: readonly Column[] = [
  ["WHEN", "change_time"],
  ["WHO", "changed_by"],
  ["ACTION", "action"],
  ["WHAT", "object_type"],
  ["ID", "object_id"],
  ["BEFORE", "before"],
  ["AFTER", "after"],
];
const actions: ReadonlyMap<string, AuditAction> = new Map([
  ["", AuditAction.UNSPECIFIED],
  ["created", AuditAction.CREATED],
  ["updated", AuditAction.UPDATED],
  ["deleted", AuditAction.DELETED],
]);

/** `tollgate audit`. */
export const audit: Resource = {
  summary: "who changed what, and when",
  verbs: {
    list: {
      summary: "lists changes, the newest first",
      args: [],
      flags: {
        ...limitFlag,
        by: { value: "NAME", meaning: "Only this operator's" },
        action: { value: "ACTION", meaning: "created, updated or deleted" },
        type: { value: "TYPE", meaning: "Only of keys (key), teams (team), team_member, budget, model and so on" },
        id: { value: "ID", meaning: "Only of the thing with this id" },
      },
      async run(call) {
        const word = flagValue(call, "action");
        const action = actions.get(word);
        if (action === undefined) throw new UsageError(`--action: "${word}" is none of created, updated, deleted`);
        const filter = {
          ...{ action, changedBy: flagValue(call, "by") },
          ...{ objectType: flagValue(call, "type"), objectId: flagValue(call, "id") },
        };
        const { rows, more } = await collect(call, async (at) => {
          const page = await call.connect(AuditAdminService).listAuditLog({ ...filter, ...at });
          return {
            rows: page.records.map((record) => {
              const row = jsonOf(AuditRecordSchema, record);
              return { ...row, action: String(row.action).replace("AUDIT_ACTION_", "").toLowerCase() };
            }),
            nextPageToken: page.nextPageToken,
          };
        });
        return { kind: "list", rows, more, columns };
      },
    },
  },
};
