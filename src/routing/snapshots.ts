import type { Config } from "../config/config.ts";
import type { Router } from "./router.ts";

/** Where calls are routed by, as of one moment. A call keeps the one it began with, whatever is configured meanwhile. */
export interface Snapshot {
  readonly router: Router;
  /** Of the configuration it is made of. */
  readonly digest: string;
}

/** The snapshot in force: one pointer, read once by each call. */
export class Snapshots {
  readonly #routerOf: (config: Config) => Router;
  #current: Snapshot;

  constructor({ config, routerOf }: { config: Config; routerOf: (config: Config) => Router }) {
    this.#routerOf = routerOf;
    this.#current = this.#snapshotOf(config);
  }

  get current(): Snapshot {
    return this.#current;
  }

  /** Calls that begin from now on are routed by this: its models, aliases and retries. */
  reload(config: Config): void {
    this.#current = this.#snapshotOf(config);
  }

  #snapshotOf(config: Config): Snapshot {
    return { router: this.#routerOf(config), digest: config.digest };
  }
}
