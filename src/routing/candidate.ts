import type { Random } from "../clock.ts";
import type { CompletionRequest } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import type { ConfiguredBudget } from "../config/configured-budget.ts";
import type { ErrorCode } from "../errors.ts";

/** How busy and how quick a deployment is, over all pods, as far as this one knows. */
export interface Load {
  /** Attempts under way. */
  readonly inFlight: number;
  /** Attempts begun in the last minute. */
  readonly requests: number;
  /** Tokens of the last minute. */
  readonly tokens: number;
  /** A decaying average, milliseconds; undefined: nobody has measured it lately. */
  readonly msPerOutputToken: number | undefined;
  /** A decaying average of streams, milliseconds; undefined: nobody has measured it lately. */
  readonly firstTokenMs: number | undefined;
}

/** Nobody uses it. */
export const idle: Load = {
  inFlight: 0,
  requests: 0,
  tokens: 0,
  msPerOutputToken: undefined,
  firstTokenMs: undefined,
};

/** Whether a deployment may be called: always, by one attempt at a time that finds out, or not for now. */
export type HealthState = "up" | "probing" | { readonly coolingForMs: number; readonly cause: ErrorCode };

/** What is known of deployments besides their configuration. Asked for each call: it must cost next to nothing. */
export interface DeploymentFacts {
  loadOf(deployment: Deployment): Load;
  stateOf(deployment: Deployment): HealthState;
  /** The budget that had no room for attempts at it a moment ago; undefined: none. Absent: nobody notes that. */
  spentOf?(deployment: Deployment): ConfiguredBudget | undefined;
}

/** A deployment a call may be tried at. */
export interface Candidate {
  readonly deployment: Deployment;
  readonly load: Load;
  /** It has just been down: one attempt at a time may find out whether it is well again. */
  readonly isProbe: boolean;
}

/** Why a deployment is not tried, in a word. */
export type ExclusionReason =
  | "cooling"
  | "probing"
  | "tags"
  | "region"
  | "context_window"
  | "unsupported"
  | "limit"
  | "budget"
  | "unhealthy";

/** A deployment that is not tried, and why. */
export interface Exclusion {
  readonly deployment: Deployment;
  readonly reason: ExclusionReason;
  /** For people, such as "cooling until 12:00:05 after 429". */
  readonly detail: string;
  /** When it may be tried again, in milliseconds from now; undefined: not as long as the call is what it is. */
  readonly retryAfterMs?: number;
  /** What it failed with, if that is why. */
  readonly cause?: ErrorCode;
}

/** Where a call can go now. */
export interface Selection {
  /** Empty: nowhere. */
  readonly candidates: readonly Candidate[];
  readonly excluded: readonly Exclusion[];
}

/** Deployments whose model an input does not fit into, and at least or about how many tokens it has. */
export type Overflows = ReadonlyMap<Deployment, number>;

/** An answer that a provider keeps, and a call goes on with. */
export interface PreviousResponse {
  /** Where it was made. */
  readonly deployment: Deployment;
  /** The provider's id of it. */
  readonly responseId: string;
  /** A number of tokens that the conversation up to and with it cannot exceed. */
  readonly tokensMax: number;
}

/** What a call asks for, as far as the choice of a deployment depends on it. */
export interface Ask {
  readonly request: CompletionRequest;
  /** Of the call, its key and its team, without repeats. */
  readonly tags: readonly string[];
  /** Where it must be answered: "eu", "us", or a provider's region; absent: anywhere. */
  readonly region?: string | undefined;
  /** Whose call it is; absent: nobody's in particular. */
  readonly keyId?: string;
  /** What it belongs to, as a header says (`x-litellm-session-id`); absent: the body may say it. */
  readonly sessionId?: string | undefined;
  /** The answer it goes on with; absent: none. */
  readonly previous?: PreviousResponse | undefined;
  /** Deployments whose model the input does not fit into, and about how many tokens it has; absent: nobody has asked. */
  readonly overflows?: Overflows;
  /** When it is asked: wall-clock time, for prices that change with it. */
  readonly nowMs: number;
}

/** Says why a deployment does not fit a call; undefined: it fits. */
export type Check = (deployment: Deployment, ask: Ask) => Exclusion | undefined;

/** Says which of a model's deployments do not fit a call, where that depends on what others there are. */
export type Filter = (deployments: readonly Deployment[], ask: Ask) => readonly Exclusion[];

/**
 * Picks one of the candidates. Nothing but its arguments goes in, and `random` decides between equals.
 *
 * @param candidates at least one.
 */
export type Strategy = (candidates: readonly Candidate[], random: Random, ask: Ask) => Candidate;
