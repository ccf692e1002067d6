/** LiteLLM's budgets for thinking, in tokens, by OpenAI's `reasoning_effort`. */
export const thinkingBudgets: Readonly<Record<string, number>> = {
  none: 0,
  disable: 0,
  minimal: 128,
  low: 1024,
  medium: 2048,
  high: 4096,
  xhigh: 8192,
  max: 16_384,
};

/** Less than this cannot be a budget for Claude's thinking. */
export const claudeBudgetMin = 1024;
