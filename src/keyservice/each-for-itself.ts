import { GatewayError } from "../errors.ts";

/** What became of one of several things that were to be done. */
export type Outcome<Done> = { readonly done: Done } | { readonly refusal: GatewayError };

/**
 * Does several things, one after the other, each for itself: what is refused keeps nothing else from being done.
 *
 * @throws GatewayError for a failure that is not the caller's: the rest would fail as well.
 */
export async function eachForItself<Item, Done>(
  items: Iterable<Item>,
  work: (item: Item) => Promise<Done>,
): Promise<Outcome<Done>[]> {
  const outcomes: Outcome<Done>[] = [];
  for (const item of items) {
    try {
      outcomes.push({ done: await work(item) });
    } catch (thrown) {
      const refusal = GatewayError.from(thrown);
      if (refusal.kind.httpStatus >= 500) throw refusal;
      outcomes.push({ refusal });
    }
  }
  return outcomes;
}
