/** What a watcher is told. `version` is that of the books after it. */
export type Change =
  | { readonly type: "key"; readonly keyId: string; readonly version: bigint }
  /** Something keys belong to or calls name. `scope` is never "key" nor "all". */
  | { readonly type: "entity"; readonly scope: string; readonly id: string; readonly version: bigint }
  /** Models or credentials. */
  | { readonly type: "models"; readonly version: bigint }
  /** Changes were missed: anything may be different. */
  | { readonly type: "reset"; readonly version: bigint }
  | { readonly type: "heartbeat"; readonly version: bigint };

/** A watcher that is so far behind is told to forget everything instead. */
const lengthMax = 1_000;

/** Changes on their way to one watcher, a bounded number however slowly it reads. */
export class WatchQueue {
  #changes: Change[] = [];
  /** Up to here the watcher knows; undefined: it is not yet clear what it knows, so everything is kept. */
  #known: bigint | undefined;
  #ended = false;
  #wake = () => {};

  /** The watcher has been told everything up to `version` by other means. */
  begin(version: bigint): void {
    this.#known = version;
  }

  push(changes: readonly Change[]): void {
    for (const change of changes) {
      // Whoever is behind has no need of signs of life.
      if (change.type === "heartbeat" && this.#changes.length > 0) continue;
      this.#changes.push(change);
      if (this.#changes.length > lengthMax) this.#changes = [{ type: "reset", version: change.version }];
    }
    this.#wake();
  }

  /** Lets `drain` end, at once. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** What was pushed, in its order, without what the watcher knows. */
  async *drain(): AsyncGenerator<Change> {
    while (!this.#ended) {
      const change = this.#changes.shift();
      if (change === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      } else if (this.#isNews(change)) {
        this.#known = change.version;
        yield change;
      }
    }
  }

  #isNews({ type, version }: Change): boolean {
    if (this.#known === undefined || type === "reset") return true;
    return type === "heartbeat" ? version >= this.#known : version > this.#known;
  }
}
