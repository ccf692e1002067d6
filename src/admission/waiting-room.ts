import type { Clock } from "../clock.ts";
import type { QueueRules } from "../config/config.ts";
import { GatewayError } from "../errors.ts";

/** Who waits for room, and how. */
interface WaitAsk {
  /** Whose deployments are full. */
  readonly group: string;
  /** Lower goes first; undefined: as configured. */
  readonly priority: number | undefined;
  readonly rules: QueueRules;
  /** How long its caller waits at the most, in milliseconds. */
  readonly leftMs: number;
  readonly signal: AbortSignal;
}

interface Waiter {
  readonly priority: number;
  /** There may be room, or it is its turn. */
  wake: () => void;
}

interface Queue {
  /** The next first. */
  readonly waiters: Waiter[];
  /** What the last of them that tried was told. */
  refusal: GatewayError;
}

/**
 * Where calls of this pod wait for a place at a deployment, each group's in a line of its own: by priority, then as they came. Only
 * the first of a line tries, so that none is overtaken; it tries again whenever an attempt of this pod has ended, and at times, for
 * other pods make room too.
 */
export class WaitingRoom {
  readonly #clock: Clock;
  readonly #queues = new Map<string, Queue>();

  constructor({ clock }: { clock: Clock }) {
    this.#clock = clock;
  }

  /** How many wait. */
  get size(): number {
    let size = 0;
    for (const { waiters } of this.#queues.values()) size += waiters.length;
    return size;
  }

  /**
   * Does something that needs room: at once if nobody waits, else when it is its turn and there is some.
   *
   * @param work throws deployments_full where there is no room, and has taken nothing then.
   * @throws GatewayError what `work` throws; deployments_full after the longest wait, or at once if the line is too long; the signal's
   *   reason when the caller leaves.
   */
  async inTurn<Result>(ask: WaitAsk, work: () => Promise<Result>): Promise<Result> {
    const { group, rules } = ask;
    const attempt = () => work().then((result) => ({ result }), refusalOf);
    let queue = this.#queues.get(group);
    if (queue === undefined) {
      const outcome = await attempt();
      if ("result" in outcome) return outcome.result;
      queue = this.#queues.get(group) ?? { waiters: [], refusal: outcome };
      this.#queues.set(group, queue);
    }
    if (queue.waiters.length >= rules.lengthMax) {
      throw told(queue.refusal, `${queue.waiters.length} calls wait for it already.`);
    }
    const waiter: Waiter = { priority: ask.priority ?? rules.defaultPriority, wake: () => {} };
    queue.waiters.splice(placeOf(queue.waiters, waiter.priority), 0, waiter);
    try {
      return await this.#wait(ask, queue, waiter, attempt);
    } finally {
      queue.waiters.splice(queue.waiters.indexOf(waiter), 1);
      if (queue.waiters.length === 0) this.#queues.delete(group);
      else queue.waiters[0]?.wake();
    }
  }

  /** There may be room in a group. */
  wake(group: string): void {
    this.#queues.get(group)?.waiters[0]?.wake();
  }

  async #wait<Result>(
    { rules, leftMs, signal }: WaitAsk,
    queue: Queue,
    waiter: Waiter,
    attempt: () => Promise<{ result: Result } | GatewayError>,
  ): Promise<Result> {
    const longestMs = Math.min(rules.waitMs, leftMs);
    const endsAtMs = this.#clock.monotonicMs() + longestMs;
    for (;;) {
      signal.throwIfAborted();
      let pauseMs = endsAtMs - this.#clock.monotonicMs();
      if (queue.waiters[0] === waiter) {
        const outcome = await attempt();
        if ("result" in outcome) return outcome.result;
        queue.refusal = outcome;
        pauseMs = Math.min(rules.pollMs, endsAtMs - this.#clock.monotonicMs());
      }
      if (pauseMs <= 0) throw told(queue.refusal, `The call has waited ${Math.round(longestMs) / 1000} s for it.`);
      await this.#pause(waiter, pauseMs, signal);
    }
  }

  /** Until somebody wakes it, or the time is over, or its caller leaves. */
  #pause(waiter: Waiter, ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        cancel();
        signal.removeEventListener("abort", wake);
        waiter.wake = () => {};
        resolve();
      };
      const cancel = this.#clock.after(ms, wake);
      waiter.wake = wake;
      signal.addEventListener("abort", wake);
    });
  }
}

/** Behind all that are at least as urgent. */
function placeOf(waiters: readonly Waiter[], priority: number): number {
  const later = waiters.findIndex((other) => other.priority > priority);
  return later === -1 ? waiters.length : later;
}

/** @throws what says nothing of room. */
function refusalOf(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError && thrown.code === "deployments_full") return thrown;
  throw thrown;
}

function told(refusal: GatewayError, besides: string): GatewayError {
  return new GatewayError(refusal.code, `${refusal.message} ${besides}`, refusal.facts);
}
