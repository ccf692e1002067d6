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

/** What a watcher is told: changes, and which budget's money it should give back. */
export type News = Change | { readonly type: "recall"; readonly budgetId: string };

/** A watcher that is so far behind is told to forget everything instead. */
const lengthMax = 1_000;

/** News on its way to one watcher, a bounded number however slowly it reads. */
export class WatchQueue {
  #news: News[] = [];
  /** Up to here the watcher knows; undefined: it is not yet clear what it knows, so everything is kept. */
  #known: bigint | undefined;
  #ended = false;
  #wake = () => {};

  /** The watcher has been told everything up to `version` by other means. */
  begin(version: bigint): void {
    this.#known = version;
  }

  push(news: readonly News[]): void {
    for (const each of news) {
      // Whoever is behind has no need of signs of life.
      if (each.type === "heartbeat" && this.#news.length > 0) continue;
      if (each.type === "recall" && this.#news.length >= lengthMax) continue;
      this.#news.push(each);
      if (each.type !== "recall" && this.#news.length > lengthMax) {
        this.#news = [{ type: "reset", version: each.version }];
      }
    }
    this.#wake();
  }

  /** Lets `drain` end, at once. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** What was pushed, in its order, without what the watcher knows. */
  async *drain(): AsyncGenerator<News> {
    while (!this.#ended) {
      const news = this.#news.shift();
      if (news === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      } else if (news.type === "recall") {
        yield news;
      } else if (this.#isNew(news)) {
        this.#known = news.version;
        yield news;
      }
    }
  }

  #isNew({ type, version }: Change): boolean {
    if (this.#known === undefined || type === "reset") return true;
    return type === "heartbeat" ? version >= this.#known : version > this.#known;
  }
}
