import type { Clock } from "../clock.ts";
import { type Perishable, Renewed } from "./renewed.ts";

/** Fetched anew so long before they run out, in milliseconds. Most hold for an hour. */
export const aheadMs = 5 * 60_000;
/** Sources held; of more, which only ever changing ones make, those not asked for longest go. */
const sourcesMax = 512;

/** Credentials that run out, by where they come from. */
export class RenewedBySource<Source extends object, T> {
  readonly #fetch: (source: Source) => Promise<Perishable<T>>;
  readonly #digestOf: (source: Source) => string;
  readonly #clock: Clock;
  readonly #bySource = new WeakMap<Source, Renewed<T>>();
  /** The same source may be written at several deployments, and is compiled anew whenever the configuration changes. */
  readonly #byDigest = new Map<string, Renewed<T>>();

  /** @param parts `digestOf`: the same for sources that give the same. */
  constructor(parts: {
    fetch: (source: Source) => Promise<Perishable<T>>;
    digestOf: (source: Source) => string;
    clock: Clock;
  }) {
    this.#fetch = parts.fetch;
    this.#digestOf = parts.digestOf;
    this.#clock = parts.clock;
  }

  /** @throws what the fetch threw, or the reason of `signal`. */
  get(source: Source, signal: AbortSignal): Promise<T> {
    let renewed = this.#bySource.get(source);
    if (renewed === undefined) {
      renewed = this.#find(source);
      this.#bySource.set(source, renewed);
    }
    return renewed.get(signal);
  }

  #find(source: Source): Renewed<T> {
    const digest = this.#digestOf(source);
    const known = this.#byDigest.get(digest);
    const renewed = known ?? new Renewed({ fetch: () => this.#fetch(source), clock: this.#clock, aheadMs });
    this.#byDigest.delete(digest);
    this.#byDigest.set(digest, renewed);
    const [oldest] = this.#byDigest.keys();
    if (this.#byDigest.size > sourcesMax && oldest !== undefined) this.#byDigest.delete(oldest);
    return renewed;
  }
}
