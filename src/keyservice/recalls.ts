import { z } from "zod";
import type { Clock } from "../clock.ts";
import type { Nanos } from "../money.ts";
import type { Queryable } from "./postgres.ts";

/** The channel on which replicas tell each other which pods to ask. */
export const recallsChannel = "tollgate_recalls";

/** What pods hold of a budget ahead of need is wanted by another pod's calls. */
export interface RecallNotice {
  readonly budgetId: string;
  readonly podIds: readonly string[];
}

/** What Recalls are made of. */
export interface RecallsParts {
  readonly books: Queryable;
  readonly clock: Clock;
}

/** When a recall looks at what has come back, in milliseconds from its beginning. */
const looksMs = [20, 60, 140, 300];
const lastLookMs = Math.max(...looksMs);
/** So long an ask waits for recalls, whichever budgets refuse it, in milliseconds. */
export const recallWaitMs = lastLookMs + 20;
/** With the last look a recall is over. For so long after that its budget is not called back again by this replica, in milliseconds. */
const firstRestMs = 2_000;
/** Each recall that brings nothing doubles the rest, up to this, in milliseconds. */
const longestRestMs = 60_000;
/** Postgres takes 8,000 bytes in one notification. */
const noticeBytesMax = 7_000;

/** An ask that a budget has refused. */
export interface RefusedAsk {
  readonly podId: string;
  readonly budgetId: string;
  /** Where the budget's period begins. */
  readonly periodStart: Date;
  /** What of the budget was spent or lent by then, in nano-dollars. */
  readonly taken: Nanos;
  /** What the ask lacked, in nano-dollars. */
  readonly lacking: Nanos;
  /** How long the ask can wait (monotonic, milliseconds). */
  readonly untilMs: number;
}

/** One for all asks of its time. */
interface Recall {
  readonly beganAtMs: number;
  /** What is lent of the budget, by pod. */
  readonly lent: Promise<ReadonlyMap<string, Nanos>>;
  /** Undefined until the pods are asked. */
  notified: Promise<void> | undefined;
  /** What of the budget is spent or lent at each look that somebody waits for. */
  readonly looks: Promise<Nanos>[];
}

/** A budget is left alone for a while after a recall. */
interface Rest {
  /** Monotonic, milliseconds. */
  readonly untilMs: number;
  /** How long it rests if the next one brings nothing, in milliseconds. */
  readonly nextMs: number;
}

/**
 * Money that pods hold ahead of need, called back when calls of another pod lack it, so that none is refused for money that lies idle
 * elsewhere. One recall of a budget serves all asks that come in its time. It may go unheard, as where a pod is cut off, or bring nothing
 * from a pod that asks itself just then: then the ask is refused, as it would be without it.
 */
export class Recalls {
  readonly #books: Queryable;
  readonly #clock: Clock;
  /** Those under way, by budget, the oldest first. */
  readonly #recalls = new Map<string, Recall>();
  readonly #rests = new Map<string, Rest>();
  #count = 0;

  constructor(parts: RecallsParts) {
    this.#books = parts.books;
    this.#clock = parts.clock;
  }

  /** How often pods were asked, since the start. */
  get count(): number {
    return this.#count;
  }

  /**
   * Asks the other pods for what they hold of the budget, and waits until enough has come back.
   *
   * @returns whether it has, so that asking again is worth while; false if the others hold too little, have had their time, or cannot
   *   be asked. Never rejects.
   */
  async wait(ask: RefusedAsk): Promise<boolean> {
    const recall = this.#recallOf(ask.budgetId);
    try {
      return recall !== undefined && (await this.#hasCome(recall, ask));
    } catch {
      this.#recalls.delete(ask.budgetId);
      return false;
    }
  }

  /** @returns the one under way, or one that begins; undefined while the budget rests. */
  #recallOf(budgetId: string): Recall | undefined {
    const nowMs = this.#clock.monotonicMs();
    this.#forgetOld(nowMs);
    const known = this.#recalls.get(budgetId);
    if (known !== undefined) return known;
    const rest = this.#rests.get(budgetId);
    if (rest !== undefined && nowMs < rest.untilMs) return undefined;
    const recall = { beganAtMs: nowMs, lent: this.#lent(budgetId), notified: undefined, looks: [] };
    this.#recalls.set(budgetId, recall);
    return recall;
  }

  #forgetOld(nowMs: number): void {
    for (const [budgetId, { beganAtMs }] of this.#recalls) {
      if (nowMs < beganAtMs + lastLookMs) break;
      this.#recalls.delete(budgetId);
    }
    // One that rests for long keeps those behind it for as long.
    for (const [budgetId, { untilMs, nextMs }] of this.#rests) {
      if (nowMs < untilMs + nextMs) break;
      this.#rests.delete(budgetId);
    }
  }

  async #hasCome(recall: Recall, ask: RefusedAsk): Promise<boolean> {
    const { podId, budgetId, periodStart, taken, lacking, untilMs } = ask;
    const agoMs = this.#clock.monotonicMs() - recall.beganAtMs;
    const lent = await recall.lent;
    let others = 0n;
    for (const [holder, amount] of lent) if (holder !== podId) others += amount;
    if (others < lacking) {
      // Other asks may lack less: only a recall that pods hear of is one.
      if (recall.notified === undefined) this.#recalls.delete(budgetId);
      return false;
    }
    recall.notified ??= this.#notify(recall, budgetId, [...lent.keys()]);
    await recall.notified;
    for (const [index, lookMs] of looksMs.entries()) {
      if (lookMs <= agoMs) continue;
      if (recall.beganAtMs + lookMs > untilMs) return false;
      recall.looks[index] ??= this.#look(budgetId, periodStart, recall.beganAtMs + lookMs);
      if ((await recall.looks[index]) > taken - lacking) continue;
      this.#rest(budgetId, { untilMs: restsFromMs(recall) + firstRestMs, nextMs: firstRestMs });
      return true;
    }
    return false;
  }

  /** @returns what of the budget is spent or lent then. */
  async #look(budgetId: string, periodStart: Date, atMs: number): Promise<Nanos> {
    const waitMs = Math.max(0, atMs - this.#clock.monotonicMs());
    await new Promise<void>((resolve) => this.#clock.after(waitMs, resolve));
    const [row] = await this.#books.query<{ taken: Nanos }>(
      `SELECT spent_nanos - forgiven_nanos + reserved_nanos AS taken FROM budget_periods
       WHERE budget_id = $1 AND period_start = $2`,
      [budgetId, periodStart],
    );
    return row?.taken ?? 0n;
  }

  async #lent(budgetId: string): Promise<ReadonlyMap<string, Nanos>> {
    const rows = await this.#books.query<{ pod_id: string; lent: Nanos }>(
      `SELECT l.pod_id, sum(l.outstanding_nanos)::bigint AS lent
       FROM lease_periods p JOIN leases l USING (lease_id)
       WHERE p.budget_id = $1 AND p.is_open AND l.state = 'open' AND l.outstanding_nanos > 0
       GROUP BY l.pod_id`,
      [budgetId],
    );
    return new Map(rows.map(({ pod_id: podId, lent }) => [podId, lent]));
  }

  #rest(budgetId: string, rest: Rest): void {
    this.#rests.delete(budgetId);
    this.#rests.set(budgetId, rest);
  }

  async #notify(recall: Recall, budgetId: string, podIds: readonly string[]): Promise<void> {
    this.#count++;
    // Until it brings something.
    const restMs = this.#rests.get(budgetId)?.nextMs ?? firstRestMs;
    this.#rest(budgetId, {
      untilMs: restsFromMs(recall) + restMs,
      nextMs: Math.min(2 * restMs, longestRestMs),
    });
    await this.#books.query("SELECT pg_notify($1, notice) FROM unnest($2::text[]) AS n (notice)", [
      recallsChannel,
      notices(budgetId, podIds),
    ]);
  }
}

function restsFromMs({ beganAtMs }: Recall): number {
  return beganAtMs + lastLookMs;
}

/** @returns undefined if it is none, as one of another version may be. */
export function readNotice(payload: string): RecallNotice | undefined {
  try {
    const [budgetId, ...podIds] = z.tuple([z.string()], z.string()).parse(JSON.parse(payload));
    return { budgetId, podIds };
  } catch {
    return undefined;
  }
}

/** The pods in as many notifications as they need. */
function notices(budgetId: string, podIds: readonly string[]): string[] {
  const all: string[] = [];
  let some: string[] = [];
  let bytes = 0;
  for (const podId of podIds) {
    const more = Buffer.byteLength(JSON.stringify(podId)) + 1;
    if (bytes + more > noticeBytesMax) {
      all.push(JSON.stringify([budgetId, ...some]));
      [some, bytes] = [[], 0];
    }
    some.push(podId);
    bytes += more;
  }
  return [...all, JSON.stringify([budgetId, ...some])];
}
