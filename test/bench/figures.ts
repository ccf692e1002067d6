import { spawnSync } from "node:child_process";
import type { Lane } from "./lanes.ts";

/** By how many things a lane's CPU is divided: calls, or the chunks of streams. */
export function chunksOf({ stream }: Lane): number {
  return stream?.chunkCount ?? 1;
}

/** @param sorted ascending. */
export function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

/** The least and the most. */
export function spread(values: readonly number[]): string {
  return `${Math.min(...values).toFixed(2)}-${Math.max(...values).toFixed(2)}`;
}

export function commit(): string {
  return spawnSync("git", ["rev-parse", "--short", "HEAD"]).stdout.toString().trim();
}
