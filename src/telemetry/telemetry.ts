/** What the gateway tells about itself. Implementations must never throw and never wait. */

import type { Caller, CompletionRequest, Usage } from "../completion.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";
import type { Nanos } from "../money.ts";

/** One call, from door to door: a SERVER span, the request metrics and a line in the log. */
export interface CallTrace {
  /** W3C trace id in hex; "" when not traced. */
  readonly traceId: string;
  /** Facts learnt on the way. */
  identify(facts: CallFacts): void;
  /** It goes on in another group than the one it was in, for a reason. */
  fellBack(from: string, to: string, reason: ErrorCode): void;
  /** Does what decides whether the call goes ahead. What KeyService and stores are asked meanwhile shows below it. */
  authorize<Result>(work: () => Result): Result;
  /** Looks for an answer that was given before. */
  lookUp<Result>(work: () => Promise<Result | undefined>): Promise<Result | undefined>;
  /** Begins a provider attempt: a CLIENT span and the attempt metrics. */
  attempt(facts: AttemptFacts): AttemptTrace;
  /** Ends it, once. `failure` undefined: the call succeeded. */
  end(failure: GatewayError | undefined): void;
}

/** What is known of a call besides how it began. Absent: not yet, or nothing. */
export interface CallFacts {
  /** Its id in the books. */
  readonly callId?: string;
  readonly keyId?: string;
  readonly keyAlias?: string | undefined;
  readonly teamId?: string | undefined;
  readonly userId?: string | undefined;
  readonly modelGroup?: string;
  /** Whether what is said must not be recorded, whatever is configured. */
  readonly hidesContent?: boolean;
  /** Whether it was answered with an answer given before. */
  readonly cacheHit?: boolean;
}

export interface AttemptFacts {
  readonly number: number;
  readonly request: CompletionRequest;
  readonly provider: string;
  readonly deploymentId: string;
  /** The group the deployment is of. */
  readonly modelGroup: string;
  readonly model: string;
  readonly apiBase: string | undefined;
  /** What it is paid from; "" for none. */
  readonly leaseId: string;
}

export interface AttemptTrace {
  /** To send to the provider, if configured. */
  readonly traceparent: string | undefined;
  /** Whether what is said may be recorded: then `end` is to be given it. */
  readonly takesContent: boolean;
  /** The first output has arrived. */
  firstOutput(): void;
  /** It is being booked from now on, until `end`. */
  settling(): void;
  /** Ends it, once. */
  end(result: AttemptResult): void;
}

/** How an attempt ended. */
export interface AttemptResult {
  readonly usage: Usage | undefined;
  readonly cost: Nanos;
  readonly responseId: string | undefined;
  /** The model in the provider's words. */
  readonly responseModel?: string | undefined;
  /** In OpenAI's words, one a choice. */
  readonly finishReasons?: readonly string[] | undefined;
  readonly error: ErrorCode | undefined;
  /** What was said. */
  readonly content?: RecordedContent | undefined;
}

/** What was said in an attempt, to be worked out when it is exported. */
export interface RecordedContent {
  /** How much memory it takes meanwhile, in bytes. */
  readonly bytes: number;
  read(): MessageContent;
}

/** Messages in OpenTelemetry's form for `gen_ai.input.messages` and its like, as JSON. Undefined: there is none. */
export interface MessageContent {
  readonly input: string | undefined;
  readonly output: string | undefined;
  readonly systemInstructions: string | undefined;
  readonly toolDefinitions: string | undefined;
}

export interface Telemetry {
  startCall(request: CompletionRequest, caller: CallOrigin): CallTrace;
  /** A log line for the operator. Never secrets, never prompts. */
  log(level: "debug" | "info" | "warn" | "error", message: string, facts?: Readonly<Record<string, unknown>>): void;
}

/** Where a call comes from. */
export type CallOrigin = Pick<
  Caller,
  "requestId" | "door" | "route" | "traceparent" | "tracestate" | "sessionId" | "tags"
>;
