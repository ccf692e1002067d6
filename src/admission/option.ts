import type { Deployment } from "../config/config.ts";

/** A deployment an attempt may be made at. */
export interface Option {
  readonly deployment: Deployment;
  /** It has just been down: one attempt at a time, of all pods, finds out whether it is well. */
  readonly isProbe: boolean;
}
