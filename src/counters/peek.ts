import type { Claim, Counters, Shortage, WindowClaim } from "./counters.ts";

/**
 * What each list of claims lacks at the moment; undefined: nothing. Nothing is taken: to each list a claim is added that never has
 * room, so that it is refused whatever else it holds. One round trip; in a Redis Cluster one for each list.
 *
 * @param lists the claims of each are of one group.
 * @throws CountersUnavailable, RangeError as `take` does.
 */
export async function peek(
  counters: Pick<Counters, "take">,
  lists: readonly (readonly Claim[])[],
): Promise<readonly (Shortage | undefined)[]> {
  if (lists.length === 0) return [];
  const closed = lists.map((claims) => [...claims, doorOf(claims)]);
  const verdict = await counters.take([], closed);
  // Where nothing is counted for now, there is room.
  if (verdict.ok || verdict.refused !== undefined) return lists.map(() => undefined);
  return verdict.full.map((shortage, index) => (shortage.refused === closed[index]?.at(-1) ? undefined : shortage));
}

/** A claim that never has room, on whatever node of a Cluster the others are. */
function doorOf([first]: readonly Claim[]): WindowClaim {
  return { kind: "window", group: first?.group ?? "peek", name: "closed", amount: 1, ceiling: 0, windowMs: 1 };
}
