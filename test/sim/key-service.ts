/** The KeyService's replicas over one set of books, and the feed of changes. */

import type { WatchResponse } from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import type { LeaseAnswer, LeaseAsk } from "../../src/keyservice/loan.ts";
import { writeNews } from "../../src/keyservice/messages.ts";
import { Sweeper } from "../../src/keyservice/sweeper.ts";
import type { Change, News } from "../../src/keyservice/watch-queue.ts";
import { MemoryBooks, type Tables } from "./memory-books.ts";
import { ProcessClock, type World } from "./world.ts";

/** How often watchers hear something, in milliseconds. */
const heartbeatMs = 5_000;
/** How long pods have to return what they are asked for, in milliseconds. */
const recallMs = 100;

/** One process of the KeyService. */
export class Replica {
  readonly clock: ProcessClock;
  readonly books: MemoryBooks;
  readonly #tables: Tables;
  readonly #watchers = new Set<(news: readonly News[]) => void>();
  #toldVersion: bigint;
  up = true;

  constructor(world: World, tables: Tables, parts: { leaseTtlMs: number; offsetMs: number }) {
    this.#tables = tables;
    this.#toldVersion = tables.version;
    const { dice } = world;
    this.clock = new ProcessClock(world, { what: "keyservice", offsetMs: parts.offsetMs, rate: 1 });
    this.books = new MemoryBooks({
      ...{ tables, clock: this.clock, leaseTtlMs: parts.leaseTtlMs, timeZone: "UTC" },
      pause: () => {
        if (!dice.happens(0.1)) return undefined;
        return new Promise((resolve) => this.clock.after(dice.whole(1, 40), resolve));
      },
    });
    const sweeper = new Sweeper({
      leases: this.books,
      books: { query: async () => [] },
      spendLog: { make: async () => {}, drop: async () => {} },
      clock: this.clock,
      intervalMs: 5_000,
      onError: () => {},
    });
    sweeper.start();
    this.#beat();
  }

  #beat(): void {
    this.clock.after(heartbeatMs, () => {
      this.tell([{ type: "heartbeat", version: this.#toldVersion }]);
      this.#beat();
    });
  }

  /** Looks at the books and tells watchers what is new. */
  look(): void {
    if (this.#tables.away || !this.up) return;
    const news = this.#since(this.#toldVersion);
    this.#toldVersion = this.#tables.version;
    this.tell(news);
  }

  tell(news: readonly News[]): void {
    if (this.#tables.away || !this.up) return;
    for (const watcher of this.#watchers) watcher(news);
  }

  /** As Lender does it: what is refused is looked at again when the pods were asked for what they hold ahead. */
  async lend(ask: LeaseAsk): Promise<LeaseAnswer> {
    const answer = await this.books.acquire(ask);
    if (answer.outcome !== "refused" || ask.ahead >= ask.want) return answer;
    this.tell([{ type: "recall", budgetId: answer.budget.budget_id }]);
    await new Promise<void>((resolve) => this.clock.after(recallMs, resolve));
    return await this.books.acquire(ask);
  }

  /** Begins a watch. @returns what is told first, and what ends it. */
  watch(sinceVersion: bigint, onNews: (messages: readonly WatchResponse[]) => void): () => void {
    this.#tables.check();
    const watcher = (news: readonly News[]) => onNews(news.map(writeNews));
    const { version } = this.#tables;
    const past = sinceVersion === 0n ? [] : this.#since(sinceVersion);
    const complete = sinceVersion === 0n || BigInt(past.length) === version - sinceVersion;
    watcher([...(complete ? past : []), { type: complete ? "heartbeat" : "reset", version }]);
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #since(since: bigint): Change[] {
    return this.#tables.changes.filter(({ version }) => version > since);
  }
}
