import type { Random } from "../clock.ts";
import type { Deployment } from "../config/config.ts";

/**
 * LiteLLM's `simple-shuffle`: at random, by `weight` if any candidate has one, else by `rpm`, else by `tpm`, else evenly. A
 * candidate without the figure gets none of the traffic as long as another has it; if all figures are zero, evenly.
 *
 * @param candidates at least one.
 */
export function simpleShuffle(candidates: readonly Deployment[], random: Random): Deployment {
  const first = candidates[0];
  if (first === undefined) throw new RangeError("simpleShuffle needs a candidate");
  if (candidates.length === 1) return first;
  const weights = weightsOf(candidates);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let point = random() * total;
  for (const [index, candidate] of candidates.entries()) {
    point -= weights[index] ?? 0;
    if (point < 0) return candidate;
  }
  return candidates.findLast((_, index) => (weights[index] ?? 0) > 0) ?? first;
}

function weightsOf(candidates: readonly Deployment[]): readonly number[] {
  for (const figure of ["weight", "rpm", "tpm"] as const) {
    const weights = candidates.map((candidate) => Math.max(0, candidate[figure] ?? 0));
    if (weights.some((weight) => weight > 0)) return weights;
  }
  return candidates.map(() => 1);
}
