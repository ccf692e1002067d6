import type { Deployment, HedgeRules } from "../config/config.ts";

/** Of each deployment so many waits are remembered. */
const waitsMax = 64;
/** Fewer of them say nothing. */
const waitsMin = 10;
/** So many deployments are remembered; behind wildcards callers choose their names. */
const deploymentsMax = 1_000;
/** So many second attempts may be made at once after a quiet time. */
const savedMax = 10;

/** The last waits for an answer to begin, the oldest overwritten first. */
interface Waits {
  readonly ms: number[];
  next: number;
}

/**
 * When a second attempt is worth it: once an answer is later than most of its deployment's have been, and as long as second attempts are a
 * small part of all, so that a slow hour does not double the load.
 */
export class Hedging {
  readonly #waits = new Map<string, Waits>();
  #saved = 1;

  /** An attempt's answer has begun, after `waitMs`. */
  observe(deployment: Deployment, isStream: boolean, waitMs: number): void {
    const name = nameOf(deployment, isStream);
    const waits = this.#waits.get(name) ?? { ms: [], next: 0 };
    if (!this.#waits.has(name)) {
      const [oldest] = this.#waits.keys();
      if (oldest !== undefined && this.#waits.size >= deploymentsMax) this.#waits.delete(oldest);
      this.#waits.set(name, waits);
    }
    waits.ms[waits.next] = waitMs;
    waits.next = (waits.next + 1) % waitsMax;
  }

  /** How long to wait for a deployment before another is asked too, in milliseconds; undefined: for ever. */
  waitMs(deployment: Deployment, isStream: boolean, rules: HedgeRules): number | undefined {
    const waits = this.#waits.get(nameOf(deployment, isStream));
    if (waits === undefined || waits.ms.length < waitsMin) return undefined;
    const sorted = waits.ms.toSorted((a, b) => a - b);
    const usual = sorted[Math.min(sorted.length - 1, Math.floor(rules.quantile * sorted.length))] ?? 0;
    return Math.max(rules.afterMsMin, usual);
  }

  /** A first attempt begins. */
  save(rules: HedgeRules): void {
    this.#saved = Math.min(savedMax, this.#saved + rules.shareMax);
  }

  /** @returns whether a second attempt may be made; then it is one less. */
  spend(): boolean {
    if (this.#saved < 1) return false;
    this.#saved -= 1;
    return true;
  }
}

function nameOf({ id, model }: Deployment, isStream: boolean): string {
  return `${id} ${model} ${isStream ? "stream" : "whole"}`;
}
