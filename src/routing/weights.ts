import type { Candidate } from "./candidate.ts";

/** Which share each candidate has of the traffic; undefined: all have the same. */
export function weightsOf(candidates: readonly Pick<Candidate, "deployment">[]): readonly number[] | undefined {
  for (const figure of ["weight", "rpm", "tpm"] as const) {
    const weights = candidates.map(({ deployment }) => Math.max(0, deployment[figure] ?? 0));
    if (weights.some((weight) => weight > 0)) return weights;
  }
  return undefined;
}
