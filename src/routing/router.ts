import type { Random } from "../clock.ts";
import type { Config, Deployment, RouterConfig } from "../config/config.ts";
import { matchWildcard } from "../wildcard.ts";
import type { Ask, Candidate, DeploymentFacts, Filter, Selection, Strategy } from "./candidate.ts";
import { candidatesOf, filtersOf, rank } from "./candidates.ts";
import { strategyOf } from "./strategies.ts";

/** So many names behind wildcards are remembered; callers choose them, so there must be an end. */
const resolvedMax = 1_000;

/** The deployments a model name leads to. */
export interface Route {
  /** The group's public name, as configured. */
  readonly modelGroup: string;
  /** Never empty. */
  readonly deployments: readonly Deployment[];
}

/** Finds and picks deployments. Precomputed from one configuration; a new configuration means a new router. */
export class Router {
  readonly #groups: ReadonlyMap<string, readonly Deployment[]>;
  readonly #aliases: Config["aliases"];
  /** Groups whose names hold `*`, the most specific (longest) first. */
  readonly #wildcardGroups: readonly string[];
  /** Deployments by id, but for those behind wildcards, which are many each. */
  readonly #byId: ReadonlyMap<string, Route>;
  /** Routes of names behind wildcards, the oldest first. */
  readonly #resolved = new Map<string, Route>();
  readonly #behindWildcard: (wildcard: Deployment, model: string) => Deployment;
  readonly #random: Random;
  readonly #facts: DeploymentFacts;
  readonly #filters: readonly Filter[];
  readonly #strategy: Strategy;
  readonly config: RouterConfig;

  /** @param parts.behindWildcard a deployment with a `*` as the one model that is called behind it. */
  constructor(parts: {
    config: Config;
    behindWildcard: (wildcard: Deployment, model: string) => Deployment;
    random: Random;
    facts: DeploymentFacts;
  }) {
    this.#groups = parts.config.modelGroups;
    this.#aliases = parts.config.aliases;
    this.#wildcardGroups = [...this.#groups.keys()]
      .filter((name) => name.includes("*"))
      .sort((a, b) => b.length - a.length);
    this.#byId = new Map(
      [...this.#groups.values()].flat().flatMap((deployment): [string, Route][] => {
        const { id, modelGroup } = deployment;
        return modelGroup.includes("*") ? [] : [[id, { modelGroup, deployments: [deployment] }]];
      }),
    );
    this.#behindWildcard = parts.behindWildcard;
    this.#random = parts.random;
    this.#facts = parts.facts;
    this.#filters = filtersOf(parts.config.router);
    this.#strategy = strategyOf(parts.config.router);
    this.config = parts.config.router;
  }

  /** The group an alias of the configuration stands for, or the name itself. */
  groupOf(model: string): string {
    return this.#aliases.get(model)?.group ?? model;
  }

  /** The way to one deployment that is asked for by its id, in place of a model's name. */
  routeToDeployment(id: string): Route | undefined {
    return this.#groups.has(id) || this.#aliases.has(id) ? undefined : this.#byId.get(id);
  }

  /** A deployment as configured, by its id; of one behind a wildcard the model is not known. */
  deployment(id: string): Deployment | undefined {
    return this.#byId.get(id)?.deployments[0] ?? [...this.#groups.values()].flat().find((each) => each.id === id);
  }

  /** The deployments of each model as configured, wildcards too. */
  groups(): Iterable<readonly Deployment[]> {
    return this.#groups.values();
  }

  /** What the file has for a model, wildcards as they are; empty: nothing. */
  configured(name: string): readonly Deployment[] {
    const isFor = (pattern: string) => matchWildcard(pattern, name) !== undefined;
    return this.#groups.get(name) ?? this.#groups.get(this.#wildcardGroups.find(isFor) ?? "") ?? [];
  }

  /** @returns undefined if the configuration has no such model. */
  route(modelGroup: string): Route | undefined {
    const deployments = this.#groups.get(modelGroup);
    if (deployments !== undefined && deployments.length > 0) return { modelGroup, deployments };
    const known = this.#resolved.get(modelGroup);
    if (known !== undefined) return known;
    const route = this.#resolve(modelGroup);
    if (route === undefined) return undefined;
    const [oldest] = this.#resolved.keys();
    if (oldest !== undefined && this.#resolved.size >= resolvedMax) this.#resolved.delete(oldest);
    this.#resolved.set(modelGroup, route);
    return route;
  }

  #resolve(name: string): Route | undefined {
    for (const pattern of this.#wildcardGroups) {
      const captured = matchWildcard(pattern, name);
      if (captured === undefined) continue;
      const deployments = (this.#groups.get(pattern) ?? []).map((deployment) =>
        this.#behindWildcard(
          deployment,
          deployment.model.replace("*", () => captured),
        ),
      );
      if (deployments.length > 0) return { modelGroup: pattern, deployments };
    }
    return undefined;
  }

  /**
   * Where an attempt can be made, in no order, and why not elsewhere.
   *
   * @param isOpen whether a deployment is to be looked at.
   */
  select(route: Route, ask: Ask, isOpen: (deployment: Deployment) => boolean): Selection {
    return candidatesOf(route.deployments, isOpen, ask, { facts: this.#facts, filters: this.#filters });
  }

  /** The best candidate first, each found when it is asked for. */
  ranked(candidates: readonly Candidate[], ask: Ask): Iterable<Candidate> {
    return candidates.length === 1 ? candidates : rank(candidates, this.#strategy, this.#random, ask);
  }

  /** Public names that can be listed: no wildcards, no hidden aliases. Sorted. */
  listModels(): string[] {
    const names = [...this.#groups.keys()].filter((name) => !name.includes("*"));
    for (const [alias, target] of this.#aliases) if (!target.hidden) names.push(alias);
    return [...new Set(names)].sort();
  }
}
