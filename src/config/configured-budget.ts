/** A budget that the configuration gives something. */
export interface ConfiguredBudget {
  readonly scope: "provider" | "deployment" | "tag";
  readonly id: string;
  /** Nano-dollars. */
  readonly max: bigint;
  /** Its period, "1d" for instance; undefined: it never resets. */
  readonly window: string | undefined;
}
