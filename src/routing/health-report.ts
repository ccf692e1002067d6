import type { Deployment } from "../config/config.ts";
import type { GatewayError } from "../errors.ts";
import type { Health } from "./health.ts";
import type { HealthChecks } from "./health-checks.ts";
import type { Snapshots } from "./snapshots.ts";

/** How a deployment is, as far as this pod knows. */
export interface DeploymentHealth {
  readonly deployment: Deployment;
  /** What is wrong, in a word without any secret; undefined: nothing that is known. */
  readonly complaint: string | undefined;
  /** For how long it is left alone yet, in milliseconds; undefined: it is not. */
  readonly coolingForMs: number | undefined;
  /** When this pod asked it last, by the wall clock; undefined: not of late. */
  readonly checkedAtMs: number | undefined;
}

/** Tells how deployments are by what is known already: this pod's last checks, and what cools on any pod. Calls nobody. */
export class HealthReport {
  readonly #snapshots: Pick<Snapshots, "current">;
  readonly #health: Health;
  readonly #checks: Pick<HealthChecks, "resultOf"> | undefined;

  /** @param parts.checks undefined: none are made. */
  constructor(parts: {
    snapshots: Pick<Snapshots, "current">;
    health: Health;
    checks: Pick<HealthChecks, "resultOf"> | undefined;
  }) {
    this.#snapshots = parts.snapshots;
    this.#health = parts.health;
    this.#checks = parts.checks;
  }

  /** @param model the only group to tell of, an alias of it, or the id of a deployment; undefined: all. */
  of(model: string | undefined): readonly DeploymentHealth[] {
    const { router } = this.#snapshots.current;
    const wanted = model && router.groupOf(model);
    return [...router.groups()]
      .flat()
      .filter(({ modelGroup, id }) => wanted === undefined || modelGroup === wanted || id === model)
      .map((deployment) => this.#healthOf(deployment));
  }

  #healthOf(deployment: Deployment): DeploymentHealth {
    const result = this.#checks?.resultOf(deployment);
    const state = this.#health.stateOf(deployment);
    const cooling = typeof state === "object" ? state : undefined;
    return {
      deployment,
      complaint:
        complaintOf(result?.failure) ?? cooling?.cause ?? (state === "probing" && !result ? untried : undefined),
      coolingForMs: cooling?.coolingForMs,
      checkedAtMs: result?.atMs,
    };
  }
}

const untried = "it failed, and nobody has tried it since";

/** The provider's own words may quote a key: only the code and the status are told. */
function complaintOf(failure: GatewayError | undefined): string | undefined {
  if (failure === undefined) return undefined;
  const status = failure.facts.metadata?.providerStatus;
  return status === undefined ? failure.code : `${failure.code} (HTTP ${status})`;
}
