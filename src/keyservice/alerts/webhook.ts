import { formatUsd, usdNumber } from "../../money.ts";
import type { Secret } from "../../secret.ts";
import { type Alert, alertKinds, dedupKey, headline } from "./alert.ts";
import type { Poster } from "./poster.ts";
import type { AlertSink } from "./sink.ts";

/** LiteLLM's names of what an alert is about. */
const eventGroups: Readonly<Record<string, string>> = { model: "key", deployment: "proxy" };

/** Any HTTP server: LiteLLM's webhook event as JSON, with the exact amounts and an id beside it. */
export class WebhookSink implements AlertSink {
  readonly name = "webhook";
  readonly #poster: Poster;
  readonly #url: Secret;

  constructor(parts: { readonly poster: Poster; readonly url: Secret }) {
    this.#poster = parts.poster;
    this.#url = parts.url;
  }

  wants(): boolean {
    return true;
  }

  async deliver(alert: Alert, signal: AbortSignal): Promise<void> {
    await this.#poster.post(this.#url, bodyOf(alert), signal, { "idempotency-key": dedupKey(alert) });
  }
}

function bodyOf(alert: Alert): Record<string, unknown> {
  const { kind, scope, scopeId, budgetId, spent, max, soft, alias, facts } = alert;
  const { event, severity } = alertKinds[kind];
  const isOfKey = scope === "key" || scope === "model";
  // JSON leaves out what is undefined.
  return {
    event,
    event_group: eventGroups[scope] ?? (scope === "team_member" ? "user" : scope),
    event_message: headline(alert),
    ...{ spend: money(spent), max_budget: money(max), soft_budget: money(soft) },
    ...(isOfKey ? { token: scopeId, key_alias: alias } : {}),
    ...(scope === "end_user" ? { customer_id: scopeId } : {}),
    user_id: alert.userId,
    user_email: alert.email,
    team_id: alert.teamId,
    team_alias: scope === "team" ? alias : undefined,
    organization_id: alert.organizationId,
    projected_exceeded_date: facts.projected_exceeded_date,
    projected_spend: facts.projected_spend_usd === undefined ? undefined : Number(facts.projected_spend_usd),
    id: dedupKey(alert),
    ...{ kind, severity, scope, scope_id: scopeId },
    ...(budgetId === "" ? {} : { budget_id: budgetId, period_start: alert.periodStart.toISOString() }),
    ...{ budget_duration: alert.duration, model: alert.model },
    ...{ spend_usd: exact(spent), max_budget_usd: exact(max), soft_budget_usd: exact(soft) },
    occurred_at: alert.createdAt.toISOString(),
    facts,
  };
}

function money(nanos: bigint | undefined): number | undefined {
  return nanos === undefined ? undefined : usdNumber(nanos);
}

function exact(nanos: bigint | undefined): string | undefined {
  return nanos === undefined ? undefined : formatUsd(nanos);
}
