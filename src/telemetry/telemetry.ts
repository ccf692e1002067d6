/** What the gateway tells about itself. Implementations must never throw and never wait. */

import type { Operation, Usage } from "../completion.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";

/** One call, from door to door: a SERVER span and the request metrics. */
export interface CallTrace {
  /** W3C trace id in hex; "" when not traced. */
  readonly traceId: string;
  /** Facts learnt on the way. */
  identify(facts: {
    readonly keyId?: string;
    readonly keyAlias?: string | undefined;
    readonly teamId?: string | undefined;
    readonly userId?: string | undefined;
    readonly modelGroup?: string;
    /** Whether it was answered with an answer given before. */
    readonly cacheHit?: boolean;
  }): void;
  /** It goes on in another group than the one it was in, for a reason. */
  fellBack(from: string, to: string, reason: ErrorCode): void;
  /** Begins a provider attempt: a CLIENT span and the attempt metrics. */
  attempt(facts: AttemptFacts): AttemptTrace;
  /** Ends it, once. `failure` undefined: the call succeeded. */
  end(failure: GatewayError | undefined): void;
}

export interface AttemptFacts {
  readonly number: number;
  readonly operation: Operation;
  readonly provider: string;
  readonly deploymentId: string;
  /** The group the deployment is of. */
  readonly modelGroup: string;
  readonly model: string;
  readonly apiBase: string | undefined;
  readonly stream: boolean;
}

export interface AttemptTrace {
  /** To send to the provider, if configured. */
  readonly traceparent: string | undefined;
  /** The first output has arrived. */
  firstOutput(): void;
  /** Ends it, once. */
  end(result: {
    readonly usage: Usage | undefined;
    readonly cost: Nanos;
    readonly responseId: string | undefined;
    readonly error: ErrorCode | undefined;
  }): void;
}

/** Where a call begins. */
export interface CallStart {
  readonly requestId: string;
  readonly door: string;
  readonly route: string;
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  readonly stream: boolean;
}

export interface Telemetry {
  startCall(start: CallStart): CallTrace;
  /** A log line for the operator. Never secrets, never prompts. */
  log(level: "debug" | "info" | "warn" | "error", message: string, facts?: Readonly<Record<string, unknown>>): void;
}
