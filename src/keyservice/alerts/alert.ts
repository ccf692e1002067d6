/** What operators are told, and in which words. */

import { hash } from "node:crypto";
import type { AlertType } from "../../config/alert-routing.ts";
import { formatUsd, type Nanos } from "../../money.ts";

interface KindFacts {
  readonly type: AlertType;
  /** PagerDuty's words. */
  readonly severity: "critical" | "error" | "warning" | "info";
  /** LiteLLM's name of it in webhooks, where it has one. */
  readonly event: string;
  readonly text: string;
}

/** Every kind of alert, once. */
export const alertKinds = {
  soft_budget: {
    ...{ type: "budget_alerts", severity: "warning", event: "soft_budget_crossed" },
    text: "The soft budget is passed.",
  },
  budget_80: {
    ...{ type: "budget_alerts", severity: "warning", event: "threshold_crossed" },
    text: "80 % of the budget is spent.",
  },
  budget_95: {
    ...{ type: "budget_alerts", severity: "warning", event: "threshold_crossed" },
    text: "95 % of the budget is spent.",
  },
  budget_100: {
    ...{ type: "budget_alerts", severity: "error", event: "budget_crossed" },
    text: "The budget is spent.",
  },
  projected_limit: {
    ...{ type: "budget_alerts", severity: "warning", event: "projected_limit_exceeded" },
    text: "At this pace the budget is spent before its period ends.",
  },
  provider_down: {
    ...{ type: "outage_alerts", severity: "critical", event: "provider_down" },
    text: "A deployment fails every call.",
  },
  provider_up: {
    ...{ type: "outage_alerts", severity: "info", event: "provider_up" },
    text: "A deployment answers again.",
  },
  fallback_rate: {
    ...{ type: "fallback_reports", severity: "warning", event: "fallback_rate" },
    text: "Many calls are answered by another deployment than the first choice.",
  },
} as const satisfies Record<string, KindFacts>;

export type AlertKind = keyof typeof alertKinds;

/** An alert to be noted. It is told once for each kind, thing it is about, budget and `periodStart`, however often it is noted. */
export interface NewAlert {
  readonly kind: AlertKind;
  /** What it is about: a scope of the books, or "deployment". */
  readonly scope: string;
  readonly scopeId: string;
  /** "" where it is not about a budget. */
  readonly budgetId: string;
  /** Of the budget's period, or of the window of time that counts as once. */
  readonly periodStart: Date;
  readonly model?: string | undefined;
  readonly duration?: string | undefined;
  readonly spent?: Nanos | undefined;
  readonly max?: Nanos | undefined;
  readonly soft?: Nanos | undefined;
  /** What else there is to say, by name. Never secrets. */
  readonly facts?: Readonly<Record<string, string>>;
}

/** An alert that is due. */
export interface Alert extends NewAlert {
  readonly alertId: bigint;
  readonly createdAt: Date;
  readonly facts: Readonly<Record<string, string>>;
  /** What is known of the thing it is about. */
  readonly alias: string | undefined;
  readonly teamId: string | undefined;
  readonly userId: string | undefined;
  readonly organizationId: string | undefined;
  readonly email: string | undefined;
}

/** A line for people: "80 % of the budget is spent: key ci (key_...)". */
export function headline({ kind, scope, scopeId, alias }: Alert): string {
  const name = alias === undefined ? scopeId : `${alias} (${scopeId})`;
  return `${alertKinds[kind].text.replace(/\.$/, "")}: ${scope.replace("_", " ")} ${name}`;
}

/** What is behind it, by name, for people and logs. */
export function detailsOf(alert: Alert): Record<string, string> {
  const { kind, scope, scopeId, alias, budgetId, model, spent, max, soft, duration, periodStart, facts } = alert;
  return {
    ...{ alert: kind, scope, scope_id: scopeId },
    ...(alias === undefined ? {} : { alias }),
    ...(budgetId === "" ? {} : { budget_id: budgetId }),
    ...(spent === undefined ? {} : { spent_usd: formatUsd(spent) }),
    ...(model === undefined ? {} : { model }),
    ...(max === undefined ? {} : { max_budget_usd: formatUsd(max) }),
    ...(soft === undefined ? {} : { soft_budget_usd: formatUsd(soft) }),
    ...(duration === undefined ? {} : { budget_duration: duration, period_start: periodStart.toISOString() }),
    ...facts,
  };
}

/** The same for every delivery of an alert, so that a receiver can tell a repetition from a second alert. */
export function dedupKey({ kind, scope, scopeId, budgetId, periodStart }: NewAlert): string {
  return digest([kind, scope, scopeId, budgetId, periodStart.toISOString()]);
}

/** The same for an outage and for its end, over all windows. */
export function outageKey({ scope, scopeId }: NewAlert): string {
  return digest(["outage", scope, scopeId]);
}

function digest(parts: readonly string[]): string {
  return `tollgate-${hash("sha256", JSON.stringify(parts)).slice(0, 40)}`;
}
