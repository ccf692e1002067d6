import type { Random } from "../clock.ts";
import type { Price, RouterConfig, RoutingStrategy } from "../config/config.ts";
import { priceAt } from "../spend/cost.ts";
import { withAffinity } from "./affinity.ts";
import type { Ask, Candidate, Strategy } from "./candidate.ts";
import { weightsOf } from "./weights.ts";

/** LiteLLM's strategies by their names. */
const strategies: Readonly<Record<RoutingStrategy, (router: Pick<RouterConfig, "latency">) => Strategy>> = {
  "simple-shuffle": () => simpleShuffle,
  "least-busy": () => leastBusy,
  "usage-based-routing": () => leastUsed,
  "usage-based-routing-v2": () => leastUsed,
  "latency-based-routing": ({ latency }) => quickest(latency?.bufferRatio ?? 0),
  "cost-based-routing": () => cheapest,
  // A budget that is used up takes deployments out of the candidates; among those that are left nothing is to be preferred.
  "provider-budget-routing": () => simpleShuffle,
};

/**
 * The strategy of a configuration. A deployment whose rpm or tpm is used up comes only after those with room: what becomes of a
 * call that would pass a limit is decided where the limit is counted.
 */
export function strategyOf(router: Pick<RouterConfig, "strategy" | "latency" | "affinity">): Strategy {
  const strategy = strategies[router.strategy](router);
  const pick = router.affinity === undefined ? strategy : withAffinity(strategy, router.affinity);
  return (candidates, random, ask) => {
    const [first] = candidates;
    if (first !== undefined && candidates.length === 1) return first;
    const roomy = candidates.filter(hasRoom);
    return pick(roomy.length > 0 ? roomy : candidates, random, ask);
  };
}

function hasRoom({ deployment, load }: Candidate): boolean {
  const { rpm = Number.POSITIVE_INFINITY, tpm = Number.POSITIVE_INFINITY } = deployment;
  return load.requests < rpm && load.tokens < tpm;
}

/**
 * At random, by `weight` if any candidate has one, else by `rpm`, else by `tpm`, else evenly. A candidate without the figure gets
 * none of the traffic as long as another has it; if all figures are zero, the next figure counts.
 */
function simpleShuffle(candidates: readonly Candidate[], random: Random): Candidate {
  const weights = weightsOf(candidates);
  if (weights === undefined) return draw(candidates, random);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let point = random() * total;
  for (const [index, candidate] of candidates.entries()) {
    point -= weights[index] ?? 0;
    if (point < 0) return candidate;
  }
  // The last subtraction may have left a trace of the point: never one that weighs nothing.
  return draw(
    candidates.filter((_, index) => (weights[index] ?? 0) > 0),
    () => 1,
  );
}

/** The fewest attempts under way. */
function leastBusy(candidates: readonly Candidate[], random: Random): Candidate {
  const least = leastOf(candidates, ({ load }) => load.inFlight);
  return draw(least, random);
}

/** The fewest tokens in the last minute; of those, for tokens are known late, the fewest attempts. */
function leastUsed(candidates: readonly Candidate[], random: Random): Candidate {
  const least = leastOf(candidates, ({ load }) => load.tokens);
  return draw(
    leastOf(least, ({ load }) => load.requests),
    random,
  );
}

/**
 * The shortest time per token, or to the first one of a stream. What nobody has measured lately is tried first, but by one call
 * at a time, lest a whole burst waits for a slow one.
 *
 * @param bufferRatio candidates that are slower than the quickest by at most this part of its time count as equal to it.
 */
function quickest(bufferRatio: number): Strategy {
  return (candidates, random, { request }) => {
    const msOf = ({ load }: Candidate) => (request.stream ? load.firstTokenMs : load.msPerOutputToken);
    const unmeasured = candidates.filter((candidate) => msOf(candidate) === undefined);
    const idle = unmeasured.filter(({ load }) => load.inFlight === 0);
    if (idle.length > 0) return draw(idle, random);
    if (unmeasured.length === candidates.length) return leastBusy(candidates, random);
    const times = candidates.map((candidate) => msOf(candidate) ?? Number.POSITIVE_INFINITY);
    const longestMs = Math.min(...times) * (1 + bufferRatio);
    return draw(
      candidates.filter((_, index) => (times[index] ?? Number.POSITIVE_INFINITY) <= longestMs),
      random,
    );
  };
}

/** The lowest price of a token read and a token written; those without a price come last. */
function cheapest(candidates: readonly Candidate[], random: Random, { nowMs }: Ask): Candidate {
  const priced = candidates.filter(({ deployment }) => deployment.price !== undefined);
  if (priced.length === 0) return draw(candidates, random);
  const least = leastOf(priced, ({ deployment: { price } }) => (price === undefined ? 0n : picosOf(price, nowMs)));
  return draw(least, random);
}

function picosOf(price: Price, nowMs: number): bigint {
  const { inputPicos, outputPicos } = priceAt(price, nowMs);
  return inputPicos + outputPicos;
}

/** Those with the smallest figure. */
function leastOf<Figure extends number | bigint>(
  candidates: readonly Candidate[],
  figureOf: (candidate: Candidate) => Figure,
): readonly Candidate[] {
  let smallest: Figure | undefined;
  let least: Candidate[] = [];
  for (const candidate of candidates) {
    const figure = figureOf(candidate);
    if (smallest !== undefined && figure > smallest) continue;
    if (figure === smallest) least.push(candidate);
    else least = [candidate];
    smallest = figure;
  }
  return least;
}

/** One of them, evenly. */
function draw<Item>(candidates: readonly Item[], random: Random): Item {
  const index = Math.min(Math.floor(random() * candidates.length), candidates.length - 1);
  const drawn = candidates[index];
  if (drawn === undefined) throw new RangeError("a strategy needs a candidate");
  return drawn;
}
