import type { Clock } from "../../src/clock.ts";
import { Board } from "../../src/counters/board.ts";
import { MemoryBoard } from "../../src/counters/board-memory.ts";

/** The board of a pod that is alone. */
export function sampleBoard(clock: Clock): Board {
  const halfLifeMs = 60_000;
  return new Board({ store: new MemoryBoard({ clock, halfLifeMs }).storeOf("pod"), clock, halfLifeMs });
}
