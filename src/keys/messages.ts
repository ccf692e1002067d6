/** The contract's messages in the pod's words, and back. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { compileOwnRules } from "../config/own-rules.ts";
import {
  type AcquireLeaseResponse,
  type Budget as BudgetMessage,
  type BudgetRefusal as BudgetRefusalMessage,
  type GetModelsResponse,
  type Grant as GrantMessage,
  LimitKind,
  type Limit as LimitMessage,
  type PartyGrant as PartyGrantMessage,
  type PartySchema,
  type Rule as RuleMessage,
  Scope as ScopeMessage,
  type WatchResponse,
} from "../gen/tollgate/keys/v1/keys_pb.ts";
import type {
  Budget,
  BudgetRefusal,
  Grant,
  KeyNews,
  LeaseAnswer,
  Limit,
  Party,
  PartyGrant,
  PartyScope,
  Rule,
  Scope,
} from "./authority.ts";
import { CallPolicy } from "./call-policy.ts";
import type { ModelsAnswer } from "./model-sync.ts";

const scopes: ReadonlyMap<ScopeMessage, Scope> = new Map([
  [ScopeMessage.KEY, "key"],
  [ScopeMessage.TEAM, "team"],
  [ScopeMessage.TEAM_MEMBER, "team_member"],
  [ScopeMessage.USER, "user"],
  [ScopeMessage.ORGANIZATION, "organization"],
  [ScopeMessage.END_USER, "end_user"],
  [ScopeMessage.TAG, "tag"],
  [ScopeMessage.MODEL, "model"],
  [ScopeMessage.MODEL_PER_KEY, "model_per_key"],
  [ScopeMessage.MODEL_PER_TEAM, "model_per_team"],
  [ScopeMessage.PROVIDER, "provider"],
  [ScopeMessage.DEPLOYMENT, "deployment"],
]);

const partyScopes: ReadonlyMap<ScopeMessage, PartyScope> = new Map([
  [ScopeMessage.END_USER, "end_user"],
  [ScopeMessage.TAG, "tag"],
  [ScopeMessage.PROVIDER, "provider"],
  [ScopeMessage.DEPLOYMENT, "deployment"],
]);

const partyMessages = new Map([...partyScopes].map(([message, scope]) => [scope, message]));

const limitKinds: ReadonlyMap<LimitKind, Limit["kind"]> = new Map([
  [LimitKind.REQUESTS_PER_MINUTE, "requests"],
  [LimitKind.TOKENS_PER_MINUTE, "tokens"],
  [LimitKind.PARALLEL_REQUESTS, "parallel"],
]);

/**
 * A grant as the KeyService sent it.
 *
 * @param read when the KeyService read it, in Unix time by its own clock, and when it was asked, by this pod's (monotonic), in milliseconds.
 * @throws if it holds a limit this version does not know: ignoring a limit would allow what it forbids.
 */
export function readGrant(message: GrantMessage, read: { readonly atMs: number; readonly sentAtMs: number }): Grant {
  const { keyId } = message;
  const limits = message.limits.filter(({ model }) => model === "").map(readLimit);
  const budgets = message.budgets.filter(({ model }) => model === "").map(readBudget);
  return {
    keyId,
    keyAlias: message.keyAlias || undefined,
    userId: message.userId || undefined,
    teamId: message.teamId || undefined,
    organizationId: message.organizationId || undefined,
    models: message.models,
    aliases: new Map(Object.entries(message.aliases)),
    rules: message.rules.map(readRule),
    payer: { id: keyId, keyId, limits, budgets, extraBudgetIds: [] },
    modelBudgets: message.budgets
      .filter(({ model }) => model !== "")
      .map((budget) => ({ model: budget.model, budget: readBudget(budget) })),
    modelLimits: message.limits
      .filter(({ model }) => model !== "")
      .map((limit) => ({ model: limit.model, limit: readLimit(limit) })),
    partyScopes: message.partyScopes.map((scope) => known(partyScopes, scope, "kind of party")),
    expiresAtMs: message.expireTime && read.sentAtMs + timestampMs(message.expireTime) - read.atMs,
    policy: CallPolicy.of(message.allowedRoutes, message.enforcedParams),
    repeat: compileOwnRules(message.routerSettings),
    hidesContent: message.hidesContent,
    allowedCacheControls: message.allowedCacheControls.length === 0 ? undefined : message.allowedCacheControls,
    blocked: message.blocked,
    version: message.version,
    tags: message.tags,
  };
}

function readRule({ scope, scopeId, models, blocked }: RuleMessage): Rule {
  return { scope: known(scopes, scope, "scope"), scopeId, models, blocked };
}

/**
 * What holds for a party, as the KeyService sent it.
 *
 * @throws as `readGrant`.
 */
export function readPartyGrant(message: PartyGrantMessage): PartyGrant {
  const scope = known(partyScopes, message.party?.scope ?? ScopeMessage.UNSPECIFIED, "kind of party");
  const { models, blocked, region } = message;
  const [limits, budgets] = [message.limits.map(readLimit), message.budgets.map(readBudget)];
  return { scope, id: message.party?.id ?? "", limits, budgets, models, blocked, region: region || undefined };
}

/** A party, for the KeyService. */
export function writeParty({ scope, id, max, window = "" }: Party): MessageInitShape<typeof PartySchema> {
  const budget = max === undefined ? {} : { maxNanos: max, window };
  return { scope: partyMessages.get(scope) ?? ScopeMessage.UNSPECIFIED, id, ...budget };
}

function readLimit(message: LimitMessage): Limit {
  return {
    scope: known(scopes, message.scope, "scope"),
    scopeId: message.scopeId,
    kind: known(limitKinds, message.kind, "limit"),
    ceiling: Number(message.ceiling),
  };
}

function readBudget(message: BudgetMessage): Budget {
  return {
    budgetId: message.budgetId,
    scope: known(scopes, message.scope, "scope"),
    scopeId: message.scopeId,
    window: message.window || undefined,
    max: message.maxNanos,
  };
}

function known<Key extends number, Value>(words: ReadonlyMap<Key, Value>, key: Key, what: string): Value {
  const word = words.get(key);
  if (word === undefined) throw new Error(`The KeyService sent a ${what} (${key}) this version does not know.`);
  return word;
}

/**
 * The answer to an ask for money.
 *
 * @throws if it is none of those this version knows.
 */
export function readLeaseAnswer(message: AcquireLeaseResponse): LeaseAnswer {
  const { outcome } = message;
  switch (outcome.case) {
    case "lease":
      return {
        outcome: "granted",
        lease: {
          granted: outcome.value.grantedNanos,
          ttlMs: Number(outcome.value.ttlMs),
          periodEndsMs: outcome.value.periodEndsMs === undefined ? undefined : Number(outcome.value.periodEndsMs),
        },
      };
    case "refusal":
      return { outcome: "refused", refusal: readRefusal(outcome.value) };
    case "ended":
      return { outcome: "ended" };
    default:
      throw new Error("The KeyService's answer is neither a lease nor a refusal.");
  }
}

function readRefusal(message: BudgetRefusalMessage): BudgetRefusal {
  if (message.budget === undefined) throw new Error("The KeyService refused without naming a budget.");
  return {
    budget: readBudget(message.budget),
    spent: message.spentNanos,
    reserved: message.reservedNanos,
    resetsAtMs: message.resetTime && timestampMs(message.resetTime),
  };
}

/** A pushed change; one of an unknown kind may concern anything, so it resets. */
export function readNews(message: WatchResponse): KeyNews {
  const { change, version } = message;
  switch (change.case) {
    case "keyChanged":
      return { type: "key", keyId: change.value.keyId, version };
    case "entityChanged": {
      const scope = scopes.get(change.value.scope);
      // As a KeyService says it that knows no other word yet.
      if (scope === "model") return { type: "models", version };
      return scope === undefined ? { type: "reset", version } : { type: "entity", scope, id: change.value.id, version };
    }
    case "modelsChanged":
      return { type: "models", version };
    case "heartbeat":
      return { type: "heartbeat", version };
    case "recall":
      return { type: "recall", budgetId: change.value.budgetId };
    default:
      return { type: "reset", version };
  }
}

/** The models of the database. */
export function readModels(message: GetModelsResponse): ModelsAnswer {
  return {
    version: message.version,
    models: message.models.map(({ id, entry = {} }) => ({ id, entry })),
    credentials: message.credentials.map(({ name, values = {} }) => ({ name, values })),
    unreadableModels: message.unreadableModelIds,
    unreadableCredentials: message.unreadableCredentialNames,
  };
}
