/** What becomes of parameters a provider does not take as they come. */
export interface ParamPolicy {
  /** OpenAI's parameters the provider has no place for. */
  readonly lacks: ReadonlySet<string>;
  /** OpenAI's parameters that the provider calls something else. Absent: none. */
  readonly renames?: Readonly<Record<string, string>>;
  /** Whether these are left out (`drop_params`) instead of refused. */
  readonly drops: boolean;
  /** What is left out of every request (`additional_drop_params`): names, or paths such as `tools[*].function.strict`. */
  readonly leavesOut: readonly string[];
  /** Whether a request may be changed for the provider to take it (`modify_params`). */
  readonly modifies: boolean;
}
