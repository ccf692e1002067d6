/** What operators are told of budgets. It is noted with the spend that passes a threshold, and told from here. */

import { formatUsd, type Nanos } from "../money.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { Postgres } from "./postgres.ts";

/** What Alerts are made of. */
export interface AlertsParts {
  readonly postgres: Postgres;
  readonly log: Telemetry["log"];
}

/** Told in one transaction. */
const alertsMax = 100;

const texts: Readonly<Record<string, string>> = {
  soft_budget: "The soft budget is passed.",
  budget_80: "80 % of the budget is spent.",
  budget_95: "95 % of the budget is spent.",
  budget_100: "The budget is spent.",
};

interface AlertRow {
  readonly alert_id: bigint;
  readonly kind: string;
  readonly budget_id: string;
  readonly period_start: Date;
  readonly scope: string;
  readonly scope_id: string;
  readonly model: string | null;
  readonly duration: string | null;
  readonly spent_nanos: Nanos;
  readonly max_nanos: Nanos | null;
  readonly soft_nanos: Nanos | null;
}

/** Tells what is due, each once. Every replica may do this at once; one that dies meanwhile leaves what it had to the others. */
export class Alerts {
  readonly #parts: AlertsParts;

  constructor(parts: AlertsParts) {
    this.#parts = parts;
  }

  /** @throws whatever Postgres throws. */
  async tellDue(): Promise<void> {
    while ((await this.#tellSome()) === alertsMax);
  }

  async #tellSome(): Promise<number> {
    const { postgres, log } = this.#parts;
    return postgres.transaction(async (client) => {
      const rows = await client.query<AlertRow>(
        `SELECT alert_id, kind, budget_id, period_start, scope, scope_id, model, duration, spent_nanos, max_nanos, soft_nanos
         FROM alerts WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at, alert_id LIMIT ${alertsMax} FOR UPDATE SKIP LOCKED`,
      );
      for (const row of rows) log("warn", texts[row.kind] ?? "A budget needs attention.", factsOf(row));
      await client.query(
        `UPDATE alerts SET delivered_to = '{log}', attempts = attempts + 1, next_attempt_at = NULL WHERE alert_id = ANY ($1::bigint[])`,
        [rows.map(({ alert_id }) => alert_id)],
      );
      return rows.length;
    });
  }
}

function factsOf(row: AlertRow): Record<string, string> {
  const { kind, budget_id, period_start, scope, scope_id, model, duration, spent_nanos, max_nanos, soft_nanos } = row;
  return {
    ...{ alert: kind, scope, scope_id, budget_id, spent_usd: formatUsd(spent_nanos) },
    ...(model === null ? {} : { model }),
    ...(max_nanos === null ? {} : { max_budget_usd: formatUsd(max_nanos) }),
    ...(soft_nanos === null ? {} : { soft_budget_usd: formatUsd(soft_nanos) }),
    ...(duration === null ? {} : { budget_duration: duration, period_start: period_start.toISOString() }),
  };
}
