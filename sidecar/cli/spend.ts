import {
  SpendAdminService,
  SpendDimension,
  SpendSchema,
  SpendSumSchema,
} from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { type Column, collect, flagValue, limitFlag, type Resource, UsageError } from "./command.ts";
import { jsonOf } from "./message-json.ts";

const columns: readonly Column[] = [
  ["STARTED", "start_time"],
  ["KEY", "key_id"],
  ["MODEL", "model_group"],
  ["PROVIDER", "provider"],
  ["STATUS", "status"],
  ["IN", "input_tokens"],
  ["OUT", "output_tokens"],
  ["COST $", "cost_usd"],
];

/** What spend can be added up by: the word for it, and the field of a sum that has it. */
const dimensions: ReadonlyMap<string, { readonly dimension: SpendDimension; readonly field: string }> = new Map([
  ["day", { dimension: SpendDimension.DAY, field: "day" }],
  ["key", { dimension: SpendDimension.KEY, field: "key_id" }],
  ["team", { dimension: SpendDimension.TEAM, field: "team_id" }],
  ["user", { dimension: SpendDimension.USER, field: "user_id" }],
  ["organization", { dimension: SpendDimension.ORGANIZATION, field: "organization_id" }],
  ["model-group", { dimension: SpendDimension.MODEL_GROUP, field: "model_group" }],
  ["model", { dimension: SpendDimension.MODEL, field: "model" }],
  ["provider", { dimension: SpendDimension.PROVIDER, field: "provider" }],
  ["customer", { dimension: SpendDimension.CUSTOMER, field: "customer" }],
  ["tag", { dimension: SpendDimension.TAG, field: "tag" }],
]);
const words = [...dimensions.keys()].join(", ");

function dimensionOf(flag: string, word: string) {
  const found = dimensions.get(word);
  if (found === undefined) throw new UsageError(`--${flag}: "${word}" is none of ${words}`);
  return found;
}

/** `tollgate spend`. */
export const spend: Resource = {
  summary: "what was spent, and by whom",
  verbs: {
    list: {
      summary: "lists booked provider attempts, the newest first",
      args: [],
      flags: {
        ...limitFlag,
        key: { value: "KEY", meaning: "Only this key's: its id or alias" },
        call: { value: "ID", meaning: "Only this call's" },
      },
      async run(call) {
        const filter = { key: flagValue(call, "key"), callId: flagValue(call, "call") };
        const { rows, more } = await collect(call, async (at) => {
          const page = await call.connect(SpendAdminService).listSpend({ ...filter, ...at });
          return { rows: page.spend.map((row) => jsonOf(SpendSchema, row)), nextPageToken: page.nextPageToken };
        });
        return { kind: "list", rows, more, columns };
      },
    },
    report: {
      summary: "adds spend up, the latest day and the dearest first",
      args: [],
      flags: {
        ...limitFlag,
        by: { value: "A,B", meaning: `What to add up by: ${words}` },
        from: { value: "DAY", meaning: "The first day, such as 2026-11-01" },
        to: { value: "DAY", meaning: "The last day" },
        only: {
          value: "team=search",
          multiple: true,
          meaning: "Only what was booked for these; several of one kind are any of them",
        },
      },
      async run(call) {
        const by = (call.flags.get("by") ?? [])
          .flatMap((value) => value.split(","))
          .map((word) => dimensionOf("by", word.trim()));
        const ids = Map.groupBy(
          (call.flags.get("only") ?? []).map((value) => {
            const at = value.indexOf("=");
            if (at <= 0) throw new UsageError(`--only: "${value}" is not KIND=ID, such as team=search`);
            return { dimension: dimensionOf("only", value.slice(0, at)).dimension, id: value.slice(at + 1) };
          }),
          ({ dimension }) => dimension,
        );
        const request = {
          groupBy: by.map(({ dimension }) => dimension),
          filters: [...ids].map(([dimension, list]) => ({ dimension, ids: list.map(({ id }) => id) })),
          ...{ startDay: flagValue(call, "from"), endDay: flagValue(call, "to") },
        };
        const { rows, more } = await collect(call, async (at) => {
          const page = await call.connect(SpendAdminService).getSpendReport({ ...request, ...at });
          return { rows: page.sums.map((sum) => jsonOf(SpendSumSchema, sum)), nextPageToken: page.nextPageToken };
        });
        const sums: Column[] = [
          ["IN", "input_tokens"],
          ["OUT", "output_tokens"],
          ["ANSWERED", "successes"],
          ["FAILED", "failures"],
          ["COST $", "cost_usd"],
        ];
        return {
          kind: "list",
          rows,
          more,
          columns: [...by.map(({ field }): Column => [field.replace(/_id$/, "").toUpperCase(), field]), ...sums],
        };
      },
    },
  },
};
