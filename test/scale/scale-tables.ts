/** The tables of `deploy/SCALE.md` that are counted: from the product's own code in virtual time, the same on every machine. */

import { ratesOf } from "./load-model.ts";

/** Calls a second of one key at one sidecar, and how long they are counted, in virtual seconds. */
const paces = [
  { calls: 0.01, seconds: 20_000 },
  { calls: 0.1, seconds: 20_000 },
  { calls: 1, seconds: 2_000 },
  { calls: 10, seconds: 300 },
  { calls: 100, seconds: 60 },
] as const;
const podCounts = [10, 100, 1_000, 10_000, 100_000];

/** Rows of Markdown: what one sidecar asks, and what all of them do. */
export async function scaleTables(): Promise<{
  readonly perSidecar: readonly string[];
  readonly perFleet: readonly string[];
}> {
  const rates = await Promise.all(
    paces.map(async ({ calls, seconds }) => ({ calls, rates: await ratesOf(calls, seconds) })),
  );
  const perSidecar = rates.map(({ calls, rates: { settle, acquire, giveBack, renew } }) => {
    const figures = [settle, acquire, giveBack, renew, settle + acquire + giveBack + renew];
    return `| ${[calls, ...figures.map((figure) => figure.toFixed(2))].join(" | ")} |`;
  });
  const perFleet = podCounts.flatMap((pods) =>
    rates
      .filter(({ calls }) => calls === 0.1 || calls === 1 || calls === 10)
      .map(({ calls, rates: { settle, acquire, giveBack, renew } }) => {
        const rpcs = settle + acquire + giveBack + renew;
        // A question for the budgets before an ask's transaction.
        const transactions = rpcs + acquire;
        return `| ${[pods, calls * pods, rpcs * pods, 0.2 * pods, transactions * pods, (2 * calls + 0.2) * pods].map(rounded).join(" | ")} |`;
      }),
  );
  return { perSidecar, perFleet };
}

/** With two digits that count. */
function rounded(value: number): string {
  return Number(value.toPrecision(2)).toLocaleString("en-US");
}
