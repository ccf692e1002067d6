/** The books' words in the contract's messages, and back. */

import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate, timestampMs } from "@bufbuild/protobuf/wkt";
import { parseDuration } from "../duration.ts";
import { GatewayError } from "../errors.ts";
import {
  type AcquireLeaseResponse,
  AcquireLeaseResponseSchema,
  type Budget as BudgetMessage,
  BudgetSchema,
  type Grant as GrantMessage,
  GrantSchema,
  LimitKind,
  type Limit as LimitMessage,
  LimitSchema,
  type PartyGrant as PartyGrantMessage,
  PartyGrantSchema,
  type Party as PartyMessage,
  Scope,
  type SpendRecord as SpendRecordMessage,
  SpendStatus as SpendStatusMessage,
  type WatchResponse,
  WatchResponseSchema,
} from "../gen/tollgate/keys/v1/keys_pb.ts";
import { type ConfiguredGrant, type ConfiguredParty, configuredTag } from "./configured-budgets.ts";
import type { Grant, GrantedBudget, GrantedLimit, Party, PartyGrant } from "./grants.ts";
import type { LeaseAnswer } from "./loan.ts";
import type { SpendRecord, SpendStatus } from "./settlements.ts";
import type { Change, News } from "./watch-queue.ts";

const scopes: ReadonlyMap<string, Scope> = new Map([
  ["key", Scope.KEY],
  ["team", Scope.TEAM],
  ["team_member", Scope.TEAM_MEMBER],
  ["user", Scope.USER],
  ["organization", Scope.ORGANIZATION],
  ["end_user", Scope.END_USER],
  ["tag", Scope.TAG],
  ["model", Scope.MODEL],
  ["model_per_key", Scope.MODEL_PER_KEY],
  ["model_per_team", Scope.MODEL_PER_TEAM],
  ["provider", Scope.PROVIDER],
  ["deployment", Scope.DEPLOYMENT],
  [configuredTag, Scope.TAG],
]);

const limitKinds: Readonly<Record<GrantedLimit["kind"], LimitKind>> = {
  requests: LimitKind.REQUESTS_PER_MINUTE,
  tokens: LimitKind.TOKENS_PER_MINUTE,
  parallel: LimitKind.PARALLEL_REQUESTS,
};

const statuses: ReadonlyMap<number, SpendStatus> = new Map([
  [SpendStatusMessage.SUCCESS, "success"],
  [SpendStatusMessage.FAILURE, "failure"],
  [SpendStatusMessage.CANCELLED, "cancelled"],
  [SpendStatusMessage.UNCONFIRMED, "unconfirmed"],
]);

/** One attempt never costs more than this (a million dollars): sums of such amounts fit the books. */
const costMax = 1_000_000_000_000_000n;
const uuidForm = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Whether the database takes a text for a UUID. */
export function isUuid(text: string): boolean {
  return uuidForm.test(text);
}

/** A key's grant. */
export function writeGrant(grant: Grant): GrantMessage {
  return create(GrantSchema, {
    keyId: grant.keyId,
    keyAlias: grant.alias ?? "",
    userId: grant.userId ?? "",
    teamId: grant.teamId ?? "",
    models: [...grant.models],
    aliases: { ...grant.aliases },
    organizationId: grant.organizationId ?? "",
    limits: grant.limits.map(writeLimit),
    rules: grant.rules.map(({ scope, scopeId, models, blocked }) => {
      return { scope: scopeOf(scope), scopeId, models: [...models], blocked };
    }),
    budgets: grant.budgets.map(writeBudget),
    partyScopes: grant.partyScopes.map(scopeOf),
    ...(grant.expiresAt === undefined ? {} : { expireTime: timestampFromDate(grant.expiresAt) }),
    blocked: grant.blocked,
    allowedRoutes: [...grant.allowedRoutes],
    enforcedParams: [...grant.enforcedParams],
    allowedCacheControls: [...grant.allowedCacheControls],
    hidesContent: grant.hidesContent,
    ...(grant.routerSettings === undefined ? {} : { routerSettings: grant.routerSettings }),
    version: grant.version,
    tags: [...grant.tags],
  });
}

function scopeOf(word: string): Scope {
  return scopes.get(word) ?? Scope.UNSPECIFIED;
}

function writeLimit({ scope, scopeId, kind, ceiling, model = "" }: GrantedLimit): LimitMessage {
  return create(LimitSchema, { scope: scopeOf(scope), scopeId, kind: limitKinds[kind], ceiling, model });
}

function writeBudget({ budgetId, scope, scopeId, max, duration, model }: GrantedBudget): BudgetMessage {
  const limit = max === undefined ? {} : { maxNanos: max };
  const window = duration ?? "";
  return create(BudgetSchema, { budgetId, scope: scopeOf(scope), scopeId, window, model: model ?? "", ...limit });
}

/** @throws GatewayError invalid_request for what is no party. */
export function readParty({ scope, id, maxNanos: max, window }: PartyMessage): Party | ConfiguredParty {
  const budget = max === undefined ? undefined : { max, duration: window === "" ? null : window };
  if (window !== "" && (budget === undefined || parseDuration(window) === undefined)) {
    throw new GatewayError("invalid_request", "`window` must be a duration, and come with `max_nanos`.", {
      param: "parties",
    });
  }
  if (scope === Scope.TAG) return budget === undefined ? { scope: "tag", id } : { scope: "tag", id, budget };
  if (scope === Scope.END_USER && budget === undefined) return { scope: "end_user", id };
  if (scope === Scope.PROVIDER && budget !== undefined) return { scope: "provider", id, budget };
  if (scope === Scope.DEPLOYMENT && budget !== undefined) return { scope: "deployment", id, budget };
  throw new GatewayError(
    "invalid_request",
    "`parties` must be end users and tags, or providers, deployments and tags with `max_nanos`.",
    { param: "parties" },
  );
}

/** What holds for calls that name a party. */
export function writePartyGrant({
  scope,
  id,
  limits,
  budgets,
  models,
  blocked,
  region,
}: PartyGrant | ConfiguredGrant): PartyGrantMessage {
  return create(PartyGrantSchema, {
    party: { scope: scopeOf(scope), id },
    limits: limits.map(writeLimit),
    budgets: budgets.map(writeBudget),
    models: [...models],
    blocked,
    region,
  });
}

/** The answer to an ask for money. */
export function writeLeaseAnswer(leaseId: string, answer: LeaseAnswer): AcquireLeaseResponse {
  switch (answer.outcome) {
    case "granted": {
      const { granted, ttlMs, periodEndsMs } = answer;
      const ends = periodEndsMs === undefined ? {} : { periodEndsMs: BigInt(periodEndsMs) };
      const value = { leaseId, grantedNanos: granted, ttlMs: BigInt(ttlMs), ...ends };
      return create(AcquireLeaseResponseSchema, { outcome: { case: "lease", value } });
    }
    case "refused": {
      const { budget, spent, reserved, resetsAt } = answer;
      const row = {
        ...budget,
        budgetId: budget.budget_id,
        scopeId: budget.model ?? budget.scope_id,
        max: budget.max_nanos ?? undefined,
      };
      const resets = resetsAt === undefined ? {} : { resetTime: timestampFromDate(resetsAt) };
      const value = { budget: writeBudget(row), spentNanos: spent, reservedNanos: reserved, ...resets };
      return create(AcquireLeaseResponseSchema, { outcome: { case: "refusal", value } });
    }
    case "ended":
      return create(AcquireLeaseResponseSchema, { outcome: { case: "ended", value: {} } });
  }
}

/** What a watcher is told. */
export function writeNews(news: News): WatchResponse {
  if (news.type === "recall") {
    return create(WatchResponseSchema, { change: { case: "recall", value: { budgetId: news.budgetId } } });
  }
  return writeChange(news);
}

function writeChange(change: Change): WatchResponse {
  const { version } = change;
  switch (change.type) {
    case "key":
      return create(WatchResponseSchema, {
        version,
        change: { case: "keyChanged", value: { keyId: change.keyId } },
      });
    case "entity": {
      const value = { scope: scopeOf(change.scope), id: change.id };
      return create(WatchResponseSchema, { version, change: { case: "entityChanged", value } });
    }
    case "models":
      return create(WatchResponseSchema, { version, change: { case: "modelsChanged", value: {} } });
    case "reset":
      return create(WatchResponseSchema, { version, change: { case: "reset", value: {} } });
    case "heartbeat":
      return create(WatchResponseSchema, { version, change: { case: "heartbeat", value: {} } });
  }
}

/**
 * One booked attempt.
 *
 * @param place in the request, for the message.
 * @throws GatewayError invalid_request for what the schema's rules let pass and the books cannot hold.
 */
export function readSpendRecord(message: SpendRecordMessage, place: number): SpendRecord {
  const status = statuses.get(message.status);
  if (status === undefined) throw invalid(place, "status", "is not known");
  if (message.costNanos > costMax) throw invalid(place, "cost_nanos", "is over a million dollars");
  if (message.reservedNanos > costMax) throw invalid(place, "reserved_nanos", "is over a million dollars");
  const startedAt = readTime(message.startTime, place, "start_time");
  if (startedAt === undefined) throw invalid(place, "start_time", "is missing");
  return {
    callId: message.callId,
    attempt: message.attempt,
    keyId: clean(message.keyId),
    // Whatever else it is, it is no lease of ours; the spend is booked all the same.
    leaseId: isUuid(message.leaseId) ? message.leaseId : undefined,
    cost: message.costNanos,
    reserved: message.reservedNanos,
    status,
    usageEstimated: message.usageEstimated,
    operation: clean(message.operation),
    modelGroup: clean(message.modelGroup),
    model: clean(message.model),
    provider: clean(message.provider),
    deploymentId: clean(message.deploymentId),
    inputTokens: message.inputTokens,
    outputTokens: message.outputTokens,
    cacheReadInputTokens: message.cacheReadInputTokens,
    cacheWriteInputTokens: message.cacheWriteInputTokens,
    reasoningOutputTokens: message.reasoningOutputTokens,
    startedAt,
    endedAt: readTime(message.endTime, place, "end_time"),
    firstOutputAt: readTime(message.firstOutputTime, place, "first_output_time"),
    priceVersion: clean(message.priceVersion),
    endUser: clean(message.endUser),
    budgetIds: message.budgetIds.map(clean),
    tags: message.tags.map(clean),
    providerResponseId: clean(message.providerResponseId),
    traceId: clean(message.traceId),
    cacheHit: message.cacheHit,
  };
}

function readTime(timestamp: Timestamp | undefined, place: number, field: string): Date | undefined {
  if (timestamp === undefined) return undefined;
  const ms = timestampMs(timestamp);
  if (!(ms >= 0 && ms < Date.UTC(10_000, 0))) throw invalid(place, field, "is not between the years 1970 and 9999");
  return new Date(ms);
}

/** Postgres has no NUL in its texts, and users can put one into theirs. */
function clean(text: string): string {
  return text.includes("\0") ? text.replaceAll("\0", "") : text;
}

function invalid(place: number, field: string, complaint: string): GatewayError {
  return new GatewayError("invalid_request", `The ${field} of record ${place} ${complaint}.`, {
    param: `records[${place}].${field}`,
  });
}
