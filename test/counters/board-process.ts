/** A pod in a process of its own: it has three attempts under way, and leaves in order on SIGTERM. */
import { keepProcessAlive, systemClock } from "../../src/clock.ts";
import { Board } from "../../src/counters/board.ts";
import type { TestRedis } from "../redis.ts";
import { connect } from "./redis-pod.ts";

const order: { readonly redis: TestRedis; readonly id: string } = JSON.parse(process.argv[2] ?? "");
const counters = connect(order.redis, { podId: `process-${process.pid}` });
const halfLifeMs = 60_000;
const board = new Board({ store: counters.boardStore(halfLifeMs), clock: systemClock, halfLifeMs });
keepProcessAlive();
for (let attempt = 0; attempt < 3; attempt += 1) board.began(order.id);
process.once("SIGTERM", async () => {
  await board.close();
  await counters.close();
  process.exit(0);
});
process.send?.("begun");
