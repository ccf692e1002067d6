import type { Deployment } from "../../src/config/config.ts";
import { type Ask, type Candidate, idle, type Load } from "../../src/routing/candidate.ts";
import { sampleDeployment, sampleRequest } from "../sample-call.ts";

/** What is to be known of a candidate: its deployment's figures and its load. */
export type CandidateFacts = Partial<Deployment & Load>;

/** A call at noon, with these fields in its body. */
export function sampleAsk(fields: object = {}, facts: Partial<Ask> = {}): Ask {
  return { request: sampleRequest(fields), tags: [], nowMs: Date.UTC(2026, 10, 26, 12), ...facts };
}

/** Deployments called "0", "1" and so on. */
export function sampleDeployments(facts: readonly Partial<Deployment>[]): Deployment[] {
  return facts.map((fact, index) => sampleDeployment({ id: String(index), ...fact }));
}

/** Candidates called "0", "1" and so on. */
export function sampleCandidates(facts: readonly CandidateFacts[]): Candidate[] {
  return sampleDeployments(facts).map((deployment, index) => ({
    deployment,
    load: { ...idle, ...facts[index] },
    isProbe: false,
  }));
}
