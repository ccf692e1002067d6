import { hash } from "node:crypto";
import type { CompletionRequest } from "../completion.ts";
import type { AffinityCheck, RouterConfig } from "../config/config.ts";
import { objectOf, textOf } from "../wires/json.ts";
import type { Ask, Candidate, Strategy } from "./candidate.ts";
import { weightsOf } from "./weights.ts";

/** Providers keep prefixes of 1,024 tokens and more. Calls that begin with the same so many bytes are taken to have the same. */
const prefixBytes = 4_096;

/** What calls have in common that are to go to the same deployment; undefined: nothing. */
const bonds: Readonly<Record<AffinityCheck, (ask: Ask) => string | undefined>> = {
  session_affinity: ({ sessionId, request }) => sessionId ?? sessionOf(request),
  prompt_caching: ({ request }) => prefixOf(request),
  deployment_affinity: ({ keyId }) => keyId,
};

/** The closest bond counts. */
const byCloseness = Object.keys(bonds) as AffinityCheck[];

/**
 * Sends calls of one session, of one long beginning or of one key to the same deployment, and others where `strategy` sends them.
 * Which one is computed (by rendezvous hashing, with the shares of `simple-shuffle`) and not remembered: all pods agree without
 * telling each other. When a deployment is not among the candidates its calls go to others, those of others stay where they are, and
 * when it is back they come back.
 */
export function withAffinity(strategy: Strategy, affinity: NonNullable<RouterConfig["affinity"]>): Strategy {
  const ofGroups = new Map(affinity.groups.map(({ modelGroup, checks }) => [modelGroup, checks]));
  return (candidates, random, ask) => {
    const modelGroup = candidates[0]?.deployment.modelGroup ?? "";
    const checks = ofGroups.get(modelGroup) ?? affinity.checks;
    for (const check of byCloseness) {
      const bond = checks.includes(check) ? bonds[check](ask) : undefined;
      const preferred = bond === undefined ? undefined : preferredFor(`${check} ${bond}`, candidates);
      if (preferred !== undefined) return preferred;
    }
    return strategy(candidates, random, ask);
  };
}

/** Each candidate draws a lot of its own for each bond; the shortest wins, and weights shorten it. */
function preferredFor(bond: string, candidates: readonly Candidate[]): Candidate | undefined {
  const weights = weightsOf(candidates);
  const digest = hash("sha256", bond);
  let shortest = Number.POSITIVE_INFINITY;
  let preferred: Candidate | undefined;
  for (const [index, candidate] of candidates.entries()) {
    const weight = weights?.[index] ?? 1;
    if (weight === 0) continue;
    const bits = Number.parseInt(hash("sha256", `${digest} ${candidate.deployment.id}`).slice(0, 12), 16);
    const lot = -Math.log((bits + 1) / 2 ** 48) / weight;
    if (lot >= shortest) continue;
    shortest = lot;
    preferred = candidate;
  }
  return preferred;
}

/** LiteLLM's places for a session in a body. */
function sessionOf(request: CompletionRequest): string | undefined {
  const body = request.chat();
  return textOf(body.litellm_session_id) ?? textOf(objectOf(body.metadata)?.session_id);
}

/** The beginning of what was said, if it is long enough to be kept by a provider. */
function prefixOf(request: CompletionRequest): string | undefined {
  if (request.inputTokensMax < prefixBytes) return undefined;
  const span = request.raw?.spans.get("messages");
  const messages =
    request.raw === undefined || span === undefined
      ? Buffer.from(JSON.stringify(request.chat().messages) ?? "")
      : request.raw.bytes.subarray(span.start, span.end);
  // Each byte stays itself, and none is cut in half.
  return messages.length < prefixBytes ? undefined : messages.toString("latin1", 0, prefixBytes);
}
