/** Budgets of providers, deployments and tags, as LiteLLM writes them. */

import { z } from "zod";
import type { ConfiguredBudget } from "./configured-budget.ts";
import { dollars, duration, map } from "./fields.ts";

const example = "a map such as {budget_limit: 100, time_period: 1d}";

/** By name: `{openai: {budget_limit: 100, time_period: 1d}}`; `max_budget` and `budget_duration` are the same. */
export const budgetTable = map(
  z
    .strictObject(
      {
        budget_limit: dollars.optional(),
        max_budget: dollars.optional(),
        time_period: duration.optional(),
        budget_duration: duration.optional(),
      },
      { error: example },
    )
    .refine(({ budget_limit, max_budget }) => (budget_limit ?? max_budget) !== undefined, { error: example }),
);

type BudgetTable = z.output<typeof budgetTable>;

/** The budgets of such a table. */
export function compileBudgets(
  scope: ConfiguredBudget["scope"],
  table: BudgetTable | undefined,
): ReadonlyMap<string, ConfiguredBudget> {
  return new Map(
    Object.entries(table ?? {}).map(([id, budget]) => {
      const max = budget.budget_limit ?? budget.max_budget ?? 0n;
      return [id, { scope, id, max, window: budget.time_period ?? budget.budget_duration }];
    }),
  );
}

/**
 * What attempts at a deployment are charged to.
 *
 * @param params of the deployment.
 * @param providers those of providers.
 */
export function budgetsOf(
  { id, provider }: { readonly id: string; readonly provider: string },
  params: { readonly max_budget?: bigint | undefined; readonly budget_duration?: string | undefined },
  providers: ReadonlyMap<string, ConfiguredBudget>,
): { readonly budgets?: readonly ConfiguredBudget[] } {
  const { max_budget: max, budget_duration: window } = params;
  const own: ConfiguredBudget | undefined = max === undefined ? undefined : { scope: "deployment", id, max, window };
  const budgets = [own, providers.get(provider)].filter((budget) => budget !== undefined);
  return budgets.length === 0 ? {} : { budgets };
}
