import { fromJson } from "@bufbuild/protobuf";
import {
  EstimateCostRequestSchema,
  EstimateCostResponseSchema,
  ProviderBudgetSchema,
  SpendAdminService,
  SpendDimension,
  SpendSchema,
  SpendSumSchema,
} from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import {
  type Call,
  type Column,
  collect,
  type Flags,
  flagValue,
  limitFlag,
  type Resource,
  UsageError,
  whole,
} from "./command.ts";
import { mapFlags, mapOf } from "./map-flags.ts";
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

const sumColumns: readonly Column[] = [
  ["IN", "input_tokens"],
  ["OUT", "output_tokens"],
  ["ANSWERED", "successes"],
  ["FAILED", "failures"],
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

const dayFlags: Flags = {
  from: { value: "DAY", meaning: "The first day, such as 2026-11-01" },
  to: { value: "DAY", meaning: "The last day" },
};
const onlyFlag: Flags = {
  only: {
    value: "team=search",
    multiple: true,
    meaning: "Only what was booked for these; several of one kind are any of them",
  },
};

function daysOf(call: Call) {
  return { startDay: flagValue(call, "from"), endDay: flagValue(call, "to") };
}

function filtersOf(call: Call) {
  const ids = Map.groupBy(
    (call.flags.get("only") ?? []).map((value) => {
      const at = value.indexOf("=");
      if (at <= 0) throw new UsageError(`--only: "${value}" is not KIND=ID, such as team=search`);
      return { dimension: dimensionOf("only", value.slice(0, at)).dimension, id: value.slice(at + 1) };
    }),
    ({ dimension }) => dimension,
  );
  return [...ids].map(([dimension, list]) => ({ dimension, ids: list.map(({ id }) => id) }));
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
        user: { value: "ID", meaning: "Only what was booked for this user" },
        ...dayFlags,
      },
      async run(call) {
        const filter = {
          ...{ key: flagValue(call, "key"), callId: flagValue(call, "call"), userId: flagValue(call, "user") },
          ...daysOf(call),
        };
        const { rows, more } = await collect(call, async (at) => {
          const page = await call.connect(SpendAdminService).listSpend({ ...filter, ...at });
          return { rows: page.spend.map((row) => jsonOf(SpendSchema, row)), nextPageToken: page.nextPageToken };
        });
        return { kind: "list", rows, more, columns };
      },
    },
    daily: {
      summary: "tells day by day what somebody spent, the latest first; --json tells on what",
      args: [],
      flags: {
        ...limitFlag,
        of: { value: "KIND", meaning: `Whose days: ${words}, but not day (default user)` },
        ids: { value: "A,B", meaning: "Their ids (default all)" },
        ...dayFlags,
        ...onlyFlag,
      },
      async run(call) {
        const { dimension } = dimensionOf("of", flagValue(call, "of") || "user");
        const ids = (call.flags.get("ids") ?? []).flatMap((value) => value.split(","));
        const request = { dimension, ids, filters: filtersOf(call), ...daysOf(call) };
        const { rows, more } = await collect(call, async (at) => {
          const page = await call.connect(SpendAdminService).listDailyActivity({ ...request, ...at });
          const days = page.days.map(({ total, parts }) => ({
            ...jsonOf(SpendSumSchema, total),
            parts: parts.map((part) => jsonOf(SpendSumSchema, part)),
          }));
          return { rows: days, nextPageToken: page.nextPageToken };
        });
        return { kind: "list", rows, more, columns: [["DAY", "day"], ...sumColumns] };
      },
    },
    estimate: {
      summary: "says what a call would be booked at, at today's price of a model",
      args: ["MODEL"],
      flags: {
        "input-tokens": { value: "N", meaning: "Tokens read, cached ones included" },
        "output-tokens": { value: "N", meaning: "Tokens written" },
        "cache-read-tokens": { value: "N", meaning: "Of the input: from a cache" },
        "cache-write-tokens": { value: "N", meaning: "Of the input: to a cache" },
        ...mapFlags("request", 'A request with its `messages`, instead of --input-tokens: {"messages":[...]}'),
      },
      async run(call) {
        const count = (flag: string) => BigInt(whole(flag, call.flags.get(flag)?.at(-1)) ?? 0);
        const messages = mapOf(call, "request")?.messages ?? [];
        const estimate = await call.connect(SpendAdminService).estimateCost(
          fromJson(EstimateCostRequestSchema, {
            ...{ model: call.args[0] ?? "", messages },
            ...{ input_tokens: String(count("input-tokens")), output_tokens: String(count("output-tokens")) },
            cache_read_input_tokens: String(count("cache-read-tokens")),
            cache_write_input_tokens: String(count("cache-write-tokens")),
          }),
        );
        const thing = jsonOf(EstimateCostResponseSchema, estimate);
        return { kind: "thing", thing, first: ["cost_usd", "input_cost_usd", "output_cost_usd", "provider"] };
      },
    },
    reset: {
      summary: "sets back what the budgets of ALL keys and teams count as used; takes the master key, and --yes",
      args: [],
      flags: { yes: { meaning: "That is what is wanted" } },
      async run(call) {
        if (!call.flags.has("yes"))
          throw new UsageError("every key and team could spend its whole budget again: add --yes");
        const { budgets } = await call.connect(SpendAdminService).resetSpend({});
        return { kind: "done", result: { budgets: String(budgets) }, text: `${budgets} budgets were set back.` };
      },
    },
    providers: {
      summary: "shows what providers may be paid in a period, and were",
      args: [],
      flags: {},
      async run(call) {
        const { budgets } = await call.connect(SpendAdminService).listProviderBudgets({});
        const heads: Column[] = [
          ["PROVIDER", "provider"],
          ["SPENT $", "spent_usd"],
          ["BUDGET $", "max_budget_usd"],
          ["PERIOD", "budget_duration"],
          ["ENDS", "budget_reset_time"],
        ];
        const rows = budgets.map((budget) => jsonOf(ProviderBudgetSchema, budget));
        return { kind: "list", rows, columns: heads, more: false };
      },
    },
    report: {
      summary: "adds spend up, the latest day and the dearest first",
      args: [],
      flags: {
        ...limitFlag,
        by: { value: "A,B", meaning: `What to add up by: ${words}` },
        ...dayFlags,
        ...onlyFlag,
      },
      async run(call) {
        const by = (call.flags.get("by") ?? [])
          .flatMap((value) => value.split(","))
          .map((word) => dimensionOf("by", word.trim()));
        const request = { groupBy: by.map(({ dimension }) => dimension), filters: filtersOf(call), ...daysOf(call) };
        const { rows, more } = await collect(call, async (at) => {
          const page = await call.connect(SpendAdminService).getSpendReport({ ...request, ...at });
          return { rows: page.sums.map((sum) => jsonOf(SpendSumSchema, sum)), nextPageToken: page.nextPageToken };
        });
        return {
          kind: "list",
          rows,
          more,
          columns: [...by.map(({ field }): Column => [field.replace(/_id$/, "").toUpperCase(), field]), ...sumColumns],
        };
      },
    },
  },
};
