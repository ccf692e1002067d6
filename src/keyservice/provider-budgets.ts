import type { Nanos } from "../money.ts";

/** What a provider may be paid in a period, and was. */
export interface ProviderBudget {
  readonly provider: string;
  readonly max: Nanos;
  /** "1d", for instance; null: it never resets. */
  readonly duration: string | null;
  readonly spent: Nanos;
  /** When the period ends, in Unix time, milliseconds; undefined: never. */
  readonly resetsAtMs: number | undefined;
}

/** Whoever knows the budgets of providers. */
export interface ProviderBudgets {
  list(): Promise<readonly ProviderBudget[]>;
}

/** Where the configuration gives providers none. */
export const noProviderBudgets: ProviderBudgets = { list: async () => [] };
