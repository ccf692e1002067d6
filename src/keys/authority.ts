/** What a pod asks of the KeyService, in the pod's own words. */

import type { Operation } from "../completion.ts";
import type { OwnRepeatRules } from "../config/config.ts";
import type { Nanos } from "../money.ts";
import type { CallPolicy } from "./call-policy.ts";

/** What a limit or budget belongs to; the names go into messages. */
export type Scope =
  | "key"
  | "team"
  | "team_member"
  | "user"
  | "organization"
  | "end_user"
  | "tag"
  | "model"
  | "model_per_key"
  | "model_per_team"
  | "provider"
  | "deployment";

/** A limit on how fast a key may be used. */
export interface Limit {
  readonly scope: Scope;
  readonly scopeId: string;
  readonly kind: "requests" | "tokens" | "parallel";
  readonly ceiling: number;
}

/** What may be named besides a key, and has budgets and limits of its own. */
export type PartyScope = "end_user" | "tag" | "provider" | "deployment";

/** What holds for a key because of something it belongs to. */
export interface Rule {
  readonly scope: Scope;
  readonly scopeId: string;
  /** Empty: all. `*` wildcards allowed. */
  readonly models: readonly string[];
  readonly blocked: boolean;
}

/** A budget that calls are charged to. `max` undefined: no limit, only counted. */
export interface Budget {
  readonly budgetId: string;
  readonly scope: Scope;
  readonly scopeId: string;
  /** Its period, "1d" for instance, which tells it from others of the same thing; undefined: it never resets. */
  readonly window: string | undefined;
  readonly max: Nanos | undefined;
}

/** Who pays for a call and what holds for it: a key, and whatever else the call names. */
export interface Payer {
  /** Tells it from this pod's other payers. */
  readonly id: string;
  readonly keyId: string;
  readonly limits: readonly Limit[];
  /** All that the call is charged to. */
  readonly budgets: readonly Budget[];
  /** The ids of those of them that its key alone does not imply. */
  readonly extraBudgetIds: readonly string[];
}

/** What a key may do. */
export interface Grant {
  readonly keyId: string;
  readonly keyAlias: string | undefined;
  readonly userId: string | undefined;
  readonly teamId: string | undefined;
  readonly organizationId: string | undefined;
  /** Empty: all. `*` wildcards allowed. */
  readonly models: readonly string[];
  readonly aliases: ReadonlyMap<string, string>;
  /** Each has to allow a call. */
  readonly rules: readonly Rule[];
  /** Who pays for calls that name nothing else which the books know. */
  readonly payer: Payer;
  /** Budgets for calls to some model only; `model` may have `*` wildcards. */
  readonly modelBudgets: readonly { readonly model: string; readonly budget: Budget }[];
  /** Limits that hold for calls to some model only, likewise. */
  readonly modelLimits: readonly { readonly model: string; readonly limit: Limit }[];
  /** Kinds of parties the books know any of. */
  readonly partyScopes: readonly PartyScope[];
  /** Monotonic, milliseconds: told in how long by the KeyService, so that this pod's idea of the date does not matter. */
  readonly expiresAtMs: number | undefined;
  /** What its calls may be and must have; undefined: anything goes. */
  readonly policy?: CallPolicy | undefined;
  /** What it or its team says of how its calls are repeated; undefined: nothing. */
  readonly repeat?: OwnRepeatRules | undefined;
  /** The members of a request's `cache` that its calls may set; undefined: all. */
  readonly allowedCacheControls?: readonly string[] | undefined;
  /** Whether what its calls say must not be recorded, whatever is configured. */
  readonly hidesContent?: boolean;
  readonly blocked: boolean;
  /** The books' version this was read at. */
  readonly version: bigint;
  readonly tags: readonly string[];
}

/** What a call names besides its key, or is made at. */
export interface Party {
  readonly scope: PartyScope;
  readonly id: string;
  /** A budget the configuration gives it; absent: none. */
  readonly max?: Nanos;
  /** That budget's period, "1d" for instance; absent: it never resets. */
  readonly window?: string | undefined;
}

/** What holds for calls that name a party. */
export interface PartyGrant extends Party {
  readonly limits: readonly Limit[];
  readonly budgets: readonly Budget[];
  /** Empty: all. `*` wildcards allowed. */
  readonly models: readonly string[];
  readonly blocked: boolean;
  /** Where they must be answered: "eu", "us", or a provider's region. Absent: anywhere. */
  readonly region?: string | undefined;
}

/** Money lent to this pod. */
export interface LeaseGrant {
  readonly granted: Nanos;
  /** Until it must be renewed, in milliseconds from when the request was sent. */
  readonly ttlMs: number;
  /** Until the budget period ends, likewise; undefined: never. */
  readonly periodEndsMs: number | undefined;
}

/** Why no money was lent. */
export interface BudgetRefusal {
  readonly budget: Budget;
  readonly spent: Nanos;
  readonly reserved: Nanos;
  /** Unix time, milliseconds; undefined: the budget never resets. */
  readonly resetsAtMs: number | undefined;
}

export type LeaseAnswer =
  | { readonly outcome: "granted"; readonly lease: LeaseGrant }
  | { readonly outcome: "refused"; readonly refusal: BudgetRefusal }
  | { readonly outcome: "ended" };

export interface LeaseAsk {
  /** A UUID; the same on retries. */
  readonly requestId: string;
  readonly leaseId: string;
  readonly keyId: string;
  /** Budgets that are asked besides the key's. */
  readonly budgetIds: readonly string[];
  readonly min: Nanos;
  readonly want: Nanos;
  /** So much of `want` is for calls to come. */
  readonly ahead: Nanos;
}

export interface LeaseReturn {
  readonly requestId: string;
  readonly leaseId: string;
  readonly amount: Nanos;
  readonly close: boolean;
}

/** How a provider attempt ended, for the books. */
export type SpendStatus = "success" | "failure" | "cancelled" | "unconfirmed";

/** One booked provider attempt. All of it fits into the journal as JSON (bigints as decimal strings). */
export interface SpendRecord {
  readonly callId: string;
  /** From 1. */
  readonly attempt: number;
  readonly keyId: string;
  /** "" when no budget limits the key. */
  readonly leaseId: string;
  readonly reserved: Nanos;
  readonly cost: Nanos;
  readonly status: SpendStatus;
  readonly usageEstimated: boolean;
  readonly modelGroup: string;
  readonly model: string;
  readonly provider: string;
  readonly deploymentId: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadInputTokens: number;
  readonly cacheWriteInputTokens: number;
  readonly reasoningOutputTokens: number;
  /** Unix times, milliseconds. */
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly firstOutputAtMs: number | undefined;
  readonly priceVersion: string;
  readonly endUser: string;
  readonly tags: readonly string[];
  readonly providerResponseId: string;
  readonly traceId: string;
  readonly operation: Operation;
  /** Budgets it is charged to besides the key's. */
  readonly budgetIds: readonly string[];
  /** Whether it is an answer given again, for which no provider was called. */
  readonly cacheHit: boolean;
}

/** What the KeyService pushes: changes, and wishes for what is held of a budget ahead of need. */
export type KeyNews = KeyChange | { readonly type: "recall"; readonly budgetId: string };

/** A change pushed by the KeyService. */
export type KeyChange =
  | { readonly type: "key"; readonly keyId: string; readonly version: bigint }
  | { readonly type: "entity"; readonly scope: Scope; readonly id: string; readonly version: bigint }
  /** Models or credentials of the database. */
  | { readonly type: "models"; readonly version: bigint }
  | { readonly type: "reset"; readonly version: bigint }
  | { readonly type: "heartbeat"; readonly version: bigint };

/**
 * The KeyService as a pod sees it. Every method rejects with AuthorityUnavailable when the service cannot be asked in time;
 * that says nothing about the key. Those that carry money reject with AuthorityRejected when the service finds the request itself
 * wrong.
 */
export interface Authority {
  /** @returns undefined if there is definitely no such key. */
  resolve(keySha256: Buffer): Promise<Grant | undefined>;
  /** @returns what holds for each, in the order given, and the books' version that was read. */
  resolveParties(parties: readonly Party[]): Promise<{ parties: readonly PartyGrant[]; version: bigint }>;
  acquire(ask: LeaseAsk): Promise<LeaseAnswer>;
  /** @returns the time to the next renewal and the leases that had already ended. */
  renew(leaseIds: readonly string[]): Promise<{ ttlMs: number; ended: readonly string[] }>;
  giveBack(returns: readonly LeaseReturn[]): Promise<void>;
  settle(records: readonly SpendRecord[]): Promise<void>;
  /**
   * Changes since a version, and recalls, until `signal` aborts or the connection breaks (then it throws). It may also just end: then
   * the next one goes on. 0n: from now.
   */
  watch(sinceVersion: bigint, signal: AbortSignal): AsyncIterable<KeyNews>;
  close(): Promise<void>;
}

/** The KeyService cannot be asked. */
export class AuthorityUnavailable extends Error {
  constructor(cause: unknown) {
    super("The KeyService does not answer.", { cause });
    this.name = "AuthorityUnavailable";
  }
}

/** The KeyService has read the request and will never carry it out; repeating it is of no use. */
export class AuthorityRejected extends Error {
  constructor(cause: unknown) {
    super("The KeyService rejected the request.", { cause });
    this.name = "AuthorityRejected";
  }
}
