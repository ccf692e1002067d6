import type pg from "pg";
import type { Clock, Random } from "../clock.ts";
import type { Secret } from "../secret.ts";
import { changesChannel } from "./changes.ts";
import { createClient, type Postgres } from "./postgres.ts";
import { readNotice, recallsChannel } from "./recalls.ts";
import { type Change, type News, WatchQueue } from "./watch-queue.ts";

/** What a ChangeFeed is made of. */
export interface ChangeFeedParts {
  readonly postgres: Postgres;
  readonly databaseUrl: Secret;
  readonly clock: Clock;
  readonly random: Random;
  /** Told after each look at the books whether they could be read; often the same as before. */
  readonly onLook: (reachable: boolean) => void;
}

/** How often the books are looked at unasked, in milliseconds: a lost notification is late by no more, and the promised second still holds. */
const lookMs = 500;
/** How often watchers hear something, in milliseconds. */
const heartbeatMs = 5_000;
/** Pause before listening again after the connection broke, in milliseconds, up to twice that. */
const listenAgainMs = 500;
/** More changes than this are not told one by one. */
const changesMax = 5_000;

/** `version` null: there is no change. */
interface ChangeRow {
  now: bigint;
  version: bigint | null;
  scope: string;
  entity_id: string;
}

/**
 * Tells watchers of this replica what changed in the books, by whichever replica it was done.
 *
 * The database's notifications only wake it up; what has changed it reads from the table, by version. So nothing depends on a
 * notification arriving, nor on one connection living.
 */
export class ChangeFeed {
  readonly #parts: ChangeFeedParts;
  /** With the pod that takes recalls; undefined: it takes none. */
  readonly #queues = new Map<WatchQueue, string | undefined>();
  #version = 0n;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #heartbeatAtMs = 0;
  #listener: pg.Client | undefined;
  #cancelLook = () => {};
  #cancelListen = () => {};
  #closed = false;

  constructor(parts: ChangeFeedParts) {
    this.#parts = parts;
  }

  /** How many watch now. */
  get watches(): number {
    return this.#queues.size;
  }

  /** Begins to look and listen. @throws whatever Postgres throws if the books cannot be read at the start. */
  async start(): Promise<void> {
    this.#version = (await this.#read(undefined)).version;
    this.#listen();
    this.#lookLater();
  }

  /**
   * Changes after `sinceVersion`, or with 0n from now, until `signal` aborts. Begins with a reset if what came since cannot be told
   * any more. A heartbeat says that everything up to its version has been told.
   *
   * @param recallsOf the pod whose recalls are told, too; undefined: none are.
   * @throws whatever Postgres throws if the past cannot be read.
   */
  async *watch(sinceVersion: bigint, signal: AbortSignal, recallsOf?: string): AsyncGenerator<News> {
    const queue = new WatchQueue();
    const end = () => queue.end();
    signal.addEventListener("abort", end);
    // Before the past is read, so that nothing falls between the two; what is in both is told once.
    this.#queues.set(queue, recallsOf);
    try {
      if (this.#closed || signal.aborted) return;
      const past = await this.#read(sinceVersion === 0n ? undefined : sinceVersion);
      queue.begin(past.version);
      if (past.complete) yield* past.changes;
      yield { type: past.complete ? "heartbeat" : "reset", version: past.version };
      yield* queue.drain();
    } finally {
      this.#queues.delete(queue);
      signal.removeEventListener("abort", end);
    }
  }

  /** Ends all watches. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelLook();
    this.#cancelListen();
    for (const queue of this.#queues.keys()) queue.end();
    await this.#listener?.end().catch(() => undefined);
    await this.#looking;
  }

  #lookLater(): void {
    if (this.#closed) return;
    this.#cancelLook = this.#parts.clock.after(lookMs, () => {
      void this.#look().then(() => this.#lookLater());
    });
  }

  /** Never fails. A wish to look while another look is under way makes that one look once more. */
  #look(): Promise<void> {
    this.#lookAgain = true;
    this.#looking ??= this.#lookWhileAsked().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookWhileAsked(): Promise<void> {
    while (this.#lookAgain && !this.#closed) {
      this.#lookAgain = false;
      try {
        await this.#tell();
        this.#parts.onLook(true);
      } catch {
        // Watchers hear nothing while nothing is known; their silence timers tell them.
        this.#parts.onLook(false);
      }
    }
  }

  async #tell(): Promise<void> {
    const { version, changes, complete } = await this.#read(this.#version);
    this.#version = version;
    const news: Change[] = complete ? changes : [{ type: "reset", version }];
    const nowMs = this.#parts.clock.monotonicMs();
    if (nowMs - this.#heartbeatAtMs >= heartbeatMs) {
      this.#heartbeatAtMs = nowMs;
      news.push({ type: "heartbeat", version });
    }
    for (const queue of this.#queues.keys()) queue.push(news);
  }

  #recall(payload: string): void {
    const notice = readNotice(payload);
    if (notice === undefined) return;
    const { budgetId } = notice;
    const holders = new Set(notice.podIds);
    for (const [queue, podId] of this.#queues) {
      if (podId !== undefined && holders.has(podId)) queue.push([{ type: "recall", budgetId }]);
    }
  }

  /** @param since undefined: only the version of now. */
  async #read(since: bigint | undefined): Promise<{ version: bigint; changes: Change[]; complete: boolean }> {
    const rows = await this.#parts.postgres.query<ChangeRow>(
      `SELECT r.version AS now, c.version, c.scope, c.entity_id
       FROM revision r LEFT JOIN LATERAL (
         SELECT version, scope, entity_id FROM changes WHERE version > $1 ORDER BY version LIMIT ${changesMax}
       ) c ON true
       ORDER BY c.version`,
      [since ?? null],
    );
    const version = rows[0]?.now;
    if (version === undefined) throw new Error("The table revision has lost its row.");
    const changes = rows.flatMap(changeOf);
    // Every version has its change, so one that is missing was trimmed, or never was: the books are older than they were.
    const complete = since === undefined || BigInt(changes.length) === version - since;
    return { version, changes, complete };
  }

  #listen(): void {
    if (this.#closed) return;
    const client = createClient(this.#parts.databaseUrl);
    this.#listener = client;
    let broken = false;
    const again = () => {
      if (broken) return;
      broken = true;
      void client.end().catch(() => undefined);
      if (this.#closed) return;
      this.#cancelListen = this.#parts.clock.after(listenAgainMs * (1 + this.#parts.random()), () => this.#listen());
    };
    client.on("error", again);
    client.on("end", again);
    client.on("notification", ({ channel, payload = "" }) => {
      if (channel === recallsChannel) this.#recall(payload);
      else void this.#look();
    });
    client
      .connect()
      .then(() => client.query(`LISTEN ${changesChannel}; LISTEN ${recallsChannel}`))
      .then(() => this.#look())
      .catch(again);
  }
}

function changeOf({ version, scope, entity_id: id }: ChangeRow): Change[] {
  if (version === null) return [];
  if (scope === "key") return [{ type: "key", keyId: id, version }];
  if (scope === "model") return [{ type: "models", version }];
  return [scope === "all" ? { type: "reset", version } : { type: "entity", scope, id, version }];
}
