/** A pod in a process of its own: takes what it is told to all at once, says how often it was granted, and holds it. */
import type { Claim } from "../../src/counters/counters.ts";
import type { TestRedis } from "../redis.ts";
import { connect } from "./redis-pod.ts";

/** What the process is told, as JSON in its first argument. */
export interface PodOrder {
  readonly redis: TestRedis;
  readonly claims: readonly Claim[];
  readonly takes: number;
}

const order: PodOrder = JSON.parse(process.argv[2] ?? "");
const counters = connect(order.redis);
const verdicts = await Promise.all(Array.from({ length: order.takes }, () => counters.take(order.claims)));
process.send?.(verdicts.filter((verdict) => verdict.ok).length);
