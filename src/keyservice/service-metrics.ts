import type { Clock } from "../clock.ts";
import { usdNumber } from "../money.ts";
import { Histogram, type Labels, type MetricFamily, type Sample } from "../telemetry/metric-family.ts";
import type { BookFigureReader, BookFigures, BudgetFigure } from "./book-figures.ts";
import type { LeaseAnswer } from "./loan.ts";
import type { SpendRecord } from "./settlements.ts";

const lagBoundsS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 86_400];

/** Counts what is booked and lent. */
export class BookingMeter {
  readonly #clock: Clock;
  readonly #lags = new Histogram(lagBoundsS);
  readonly #leases = { granted: 0, refused: 0, ended: 0 };
  #booked = 0;
  #duplicates = 0;

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock;
  }

  /** Records are in the books; so many of them were there already. */
  settled(records: readonly SpendRecord[], duplicates: number): void {
    const nowMs = this.#clock.nowMs();
    this.#booked += records.length - duplicates;
    this.#duplicates += duplicates;
    for (const { endedAt } of records) {
      if (endedAt !== undefined) this.#lags.observe(Math.max(0, nowMs - endedAt.getTime()) / 1000);
    }
  }

  /** Somebody has asked for money. */
  lent({ outcome }: Pick<LeaseAnswer, "outcome">): void {
    this.#leases[outcome] += 1;
  }

  families(): readonly MetricFamily[] {
    return [
      counter("tollgate_usage_booked_total", "KeyService: spend records booked.", () => [value(this.#booked)]),
      counter(
        "tollgate_usage_duplicates_total",
        "KeyService: spend records that came again and were not booked again.",
        () => [value(this.#duplicates)],
      ),
      {
        name: "tollgate_settlement_lag_seconds",
        help: "KeyService: from the end of an attempt until it was booked, by both programs' clocks.",
        type: "histogram",
        read: () => [{ labels: {}, histogram: this.#lags }],
      },
      counter("tollgate_lease_requests_total", "KeyService: asks for money, by what became of them.", () =>
        Object.entries(this.#leases).map(([outcome, count]) => ({ labels: { outcome }, value: count })),
      ),
    ];
  }
}

/** What the books hold; every replica of the KeyService tells the same. */
export function bookMetrics(reader: BookFigureReader, clock: Clock): readonly MetricFamily[] {
  const of = (name: string, help: string, samplesOf: (figures: BookFigures) => readonly Sample[]): MetricFamily => ({
    ...{ name, help, type: "gauge" },
    read: async () => {
      const figures = await reader.read();
      return figures === undefined ? [] : samplesOf(figures);
    },
  });
  const one = (name: string, help: string, figureOf: (figures: BookFigures) => number) =>
    of(name, help, (figures) => [value(figureOf(figures))]);
  const budgets = (name: string, help: string, figureOf: (budget: BudgetFigure) => number) =>
    of(name, help, (figures) =>
      figures.budgets.map((budget) => ({ labels: budgetLabels(budget), value: figureOf(budget) })),
    );
  return [
    budgets(
      "tollgate_budget_limit_usd",
      "KeyService: what a budget allows in its current period (the 1,000 with the least left).",
      ({ max }) => usdNumber(max),
    ),
    budgets("tollgate_budget_spent_usd", "KeyService: what of it is spent.", ({ spent }) => usdNumber(spent)),
    budgets("tollgate_budget_reserved_usd", "KeyService: what of it is lent to pods.", ({ reserved }) =>
      usdNumber(reserved),
    ),
    of("tollgate_budget_reset_timestamp_seconds", "KeyService: when its period ends.", (figures) =>
      figures.budgets.flatMap((budget) => {
        const { resetsAtMs } = budget;
        return resetsAtMs === undefined ? [] : { labels: budgetLabels(budget), value: resetsAtMs / 1000 };
      }),
    ),
    one("tollgate_budgets_untold", "KeyService: limited budgets beyond those that are told.", (f) => f.untoldBudgets),
    one("tollgate_keys", "KeyService: virtual keys.", ({ keys }) => keys),
    one("tollgate_open_leases", "KeyService: leases that pods hold.", ({ openLeases }) => openLeases),
    one("tollgate_lent_usd", "KeyService: money lent to pods and not settled.", ({ lent }) => usdNumber(lent)),
    one(
      "tollgate_unconfirmed_usd",
      "KeyService: charged for leases that ran out, until the pod's records come in late.",
      ({ unconfirmed }) => usdNumber(unconfirmed),
    ),
    one("tollgate_alerts_waiting", "KeyService: alerts still to be delivered.", ({ waitingAlerts }) => waitingAlerts),
    ...litellmBudgets(of, clock),
    one("litellm_teams_count", "Teams. LiteLLM's name for it.", ({ teams }) => teams),
    one("litellm_total_users", "Users. LiteLLM's name for it.", ({ users }) => users),
  ];
}

function litellmBudgets(
  of: (name: string, help: string, samplesOf: (figures: BookFigures) => readonly Sample[]) => MetricFamily,
  clock: Clock,
): readonly MetricFamily[] {
  const family = (name: string, what: string, scope: string, figureOf: (budget: BudgetFigure) => number | undefined) =>
    of(name, `${what} LiteLLM's name for it.`, ({ budgets }) =>
      budgets.flatMap((budget): Sample[] => {
        const figure = budget.scope === scope && budget.isMain ? figureOf(budget) : undefined;
        return figure === undefined ? [] : [{ labels: litellmLabels(budget), value: figure }];
      }),
    );
  const left = ({ max, spent }: BudgetFigure) => usdNumber(max - spent);
  const hours = ({ resetsAtMs }: BudgetFigure) =>
    resetsAtMs === undefined ? undefined : (resetsAtMs - clock.nowMs()) / 3_600_000;
  const scopes = [
    ["team", "team"],
    ["key", "api_key"],
    ["user", "user"],
  ] as const;
  return [
    ...scopes.flatMap(([scope, name]) => [
      family(`litellm_remaining_${name}_budget_metric`, "What is left of a budget.", scope, left),
      family(`litellm_${name}_max_budget_metric`, "What a budget allows.", scope, ({ max }) => usdNumber(max)),
      family(`litellm_${name}_budget_remaining_hours_metric`, "Hours until a budget's period ends.", scope, hours),
    ]),
    family("litellm_provider_remaining_budget_metric", "What is left of a provider's budget.", "provider", left),
  ];
}

function budgetLabels({ scope, scopeId, alias, model, duration }: BudgetFigure): Labels {
  return { scope, id: scopeId, alias, model, window: duration };
}

function litellmLabels({ scope, scopeId, alias }: BudgetFigure): Labels {
  const name = alias || "None";
  if (scope === "team") return { team: scopeId, team_alias: name };
  if (scope === "key") return { hashed_api_key: scopeId, api_key_alias: name };
  return scope === "provider" ? { api_provider: scopeId } : { user: scopeId };
}

function value(figure: number): Sample {
  return { labels: {}, value: figure };
}

function counter(name: string, help: string, read: () => readonly Sample[]): MetricFamily {
  return { name, help, type: "counter", read };
}
