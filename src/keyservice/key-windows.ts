/** A key's further budgets, each with a period of its own, beside its main one. */

import type { Json, JsonObject } from "../completion.ts";
import { parseDuration } from "../duration.ts";
import { type Nanos, parseUsd, usdFromNumber } from "../money.ts";
import {
  type BudgetLimit,
  checkBudget,
  durationForm,
  type FieldNames,
  invalid,
  type KeyChange,
  type KeyFields,
} from "./key-fields.ts";

const windowsMax = 16;
/** The window that `metadata.monthly_budget` makes. */
const monthly = "1mo";

/** @throws GatewayError `invalid_request` if a window has no duration of its own, or an amount the books cannot hold. */
export function checkWindows({ budgetLimits, metadata }: KeyChange, names: FieldNames): void {
  checkBudgetLimits(budgetLimits, names.budgetLimits);
  checkMonthlyBudget(metadata, `${names.metadata}.monthly_budget`);
}

function checkBudgetLimits(limits: readonly BudgetLimit[] | undefined, name: string): void {
  if (limits === undefined) return;
  if (limits.length > windowsMax) throw invalid(name, `must have at most ${windowsMax} entries.`);
  const durations = new Set<string>();
  for (const { duration, max } of limits) {
    if (parseDuration(duration) === undefined) throw invalid(name, `must give each entry a duration, ${durationForm}`);
    if (durations.has(duration)) throw invalid(name, `must have the duration "${duration}" only once.`);
    durations.add(duration);
    checkBudget(max, name);
  }
}

function checkMonthlyBudget(metadata: JsonObject | undefined, name: string): void {
  const value = metadata?.monthly_budget;
  if (value === undefined || value === null) return;
  const amount = dollarsOf(value);
  if (amount === undefined) throw invalid(name, "must be a number of dollars, or null for no limit.");
  checkBudget(amount, name);
}

/**
 * All further windows of a key.
 *
 * @param names what the caller's face calls the fields.
 * @throws GatewayError `invalid_request` if they could not be told from each other or from the main budget.
 */
export function windowsOf(
  { budgetLimits, budgetDuration, metadata }: Pick<KeyFields, "budgetLimits" | "budgetDuration" | "metadata">,
  names: FieldNames,
): readonly BudgetLimit[] {
  const amount = monthlyBudgetOf(metadata);
  const monthlyName = `${names.metadata}.monthly_budget`;
  for (const { duration } of budgetLimits) {
    if (duration === budgetDuration) {
      throw invalid(
        names.budgetLimits,
        `has the duration "${duration}", and so has the main budget (\`${names.budgetDuration}\`). Leave one of them out.`,
      );
    }
    if (duration === monthly && amount !== undefined) {
      throw invalid(
        names.budgetLimits,
        `has the duration "${monthly}", which is \`${monthlyName}\`. Leave one of them out.`,
      );
    }
  }
  if (amount === undefined) return budgetLimits;
  if (budgetDuration === monthly) {
    throw invalid(
      monthlyName,
      `is a window of "${monthly}", and so is the main budget (\`${names.budgetDuration}\`). Leave one of them out.`,
    );
  }
  return [...budgetLimits, { duration: monthly, max: amount }];
}

/** Whether a window is not one of `budgetLimits`, but what `monthly_budget` makes: there is only one of its duration. */
export function isFromMetadata({ duration }: Pick<BudgetLimit, "duration">, metadata: JsonObject): boolean {
  return duration === monthly && monthlyBudgetOf(metadata) !== undefined;
}

function monthlyBudgetOf({ monthly_budget: value }: JsonObject): Nanos | undefined {
  return value === undefined ? undefined : dollarsOf(value);
}

function dollarsOf(value: Json): Nanos | undefined {
  if (typeof value === "number") return usdFromNumber(value);
  return typeof value === "string" ? parseUsd(value) : undefined;
}
