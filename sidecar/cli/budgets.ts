import { fromJson } from "@bufbuild/protobuf";
import { BudgetAdminService, BudgetSchema } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { type Call, type Column, etagFlag, flagValue, type Resource, requestIdFlag } from "./command.ts";
import { clearFlag, extraField, limitFields, readChange, readFields } from "./fields.ts";
import { jsonOf } from "./message-json.ts";

const columns: readonly Column[] = [
  ["ID", "id"],
  ["BUDGET $", "max_budget_usd"],
  ["PERIOD", "budget_duration"],
  ["RPM", "rpm_limit"],
  ["TPM", "tpm_limit"],
];
const first = ["id", "max_budget_usd", "soft_budget_usd", "budget_duration"];
const names = ["max-budget", "soft-budget", "budget-duration", "rpm-limit", "tpm-limit", "max-parallel-requests"];
const fields = {
  ...Object.fromEntries(Object.entries(limitFields).filter(([name]) => names.includes(name))),
  ...extraField,
};

const service = (call: Call) => call.connect(BudgetAdminService);

/** `tollgate budgets`. */
export const budgets: Resource = {
  summary: "budgets to be shared: whatever names one in --budget-id has its limits, and counts for itself",
  verbs: {
    create: {
      summary: "makes a budget",
      args: ["[ID]"],
      flags: { ...fields, ...requestIdFlag },
      async run(call) {
        const budget = fromJson(BudgetSchema, { ...readFields(call, fields), id: call.args[0] ?? "" });
        const made = await service(call).createBudget({ budget, requestId: flagValue(call, "request-id") });
        return { kind: "thing", thing: jsonOf(BudgetSchema, made.budget), first };
      },
    },
    list: {
      summary: "lists budgets, the newest first",
      args: ["[ID...]"],
      flags: {},
      async run(call) {
        const { budgets: found } = await service(call).listBudgets({ ids: [...call.args] });
        return { kind: "list", rows: found.map((budget) => jsonOf(BudgetSchema, budget)), columns, more: false };
      },
    },
    update: {
      summary: "changes a budget for all who share it; what no flag names stays",
      args: ["ID"],
      flags: { ...fields, ...clearFlag, ...etagFlag },
      async run(call) {
        const { message, paths } = readChange(call, fields);
        const etag = flagValue(call, "etag");
        const budget = fromJson(BudgetSchema, { ...message, id: call.args[0] ?? "", etag });
        const updated = await service(call).updateBudget({ budget, updateMask: { paths } });
        return { kind: "thing", thing: jsonOf(BudgetSchema, updated.budget), first };
      },
    },
    delete: {
      summary: "ends a budget nobody uses any more",
      args: ["ID"],
      flags: {},
      async run(call) {
        await service(call).deleteBudget({ id: call.args[0] ?? "" });
        return { kind: "done", result: { deleted: true }, text: "The budget is deleted." };
      },
    },
  },
};
