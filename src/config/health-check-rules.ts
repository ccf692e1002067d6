/** How one deployment is asked whether it is well. */
export interface DeploymentCheck {
  /** It is not asked. */
  readonly disabled?: boolean;
  /** Asked for instead of its own model, with or without the provider's name before it. */
  readonly model?: string;
  /** How long it has to answer, in milliseconds. */
  readonly timeoutMs?: number;
}

/** How deployments are asked whether they are well. */
export interface HealthCheckRules {
  /** Between two checks of a deployment, over all pods, in milliseconds. */
  readonly intervalMs: number;
}
