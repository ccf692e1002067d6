/** gRPC status codes by number, as the wire and connect-es count them (https://grpc.io/docs/guides/status-codes/). */
export const RpcCode = {
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

interface ErrorKind {
  /** The HTTP status of the OpenAI door. */
  readonly httpStatus: number;
  /** The status of the gRPC door, one of RpcCode. */
  readonly rpcCode: number;
  /** `error.type` in OpenAI's error body. */
  readonly type: string;
  /** Whether the same call may succeed later without anybody changing anything; becomes `x-should-retry`. */
  readonly retry: boolean;
  /** Whose fault it is: who has to act. */
  readonly blame: "caller" | "operator" | "provider" | "gateway";
  /** When it happens, for the README's error table. */
  readonly meaning: string;
}

/**
 * Every way a call can fail, once. The key is `error.code` in OpenAI's body, and in capitals `ErrorInfo.reason` over RPC.
 * The README's error table is tested against this one.
 */
export const errorTable = {
  invalid_request: { httpStatus: 400, rpcCode: RpcCode.invalidArgument, type: "invalid_request_error", retry: false, blame: "caller", meaning: "A field is missing or has a wrong value; `param` names it." },
  invalid_json: { httpStatus: 400, rpcCode: RpcCode.invalidArgument, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The body is not JSON, not UTF-8, or nested deeper than 128 levels." },
  unsupported_media_type: { httpStatus: 415, rpcCode: RpcCode.invalidArgument, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The body is not `application/json`." },
  body_too_large: { httpStatus: 413, rpcCode: RpcCode.resourceExhausted, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The body is over the size limit." },
  route_not_found: { httpStatus: 404, rpcCode: RpcCode.unimplemented, type: "invalid_request_error", retry: false, blame: "caller", meaning: "There is nothing at this path." },
  method_not_allowed: { httpStatus: 405, rpcCode: RpcCode.unimplemented, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The path takes another method; `allow` names it." },
  host_not_allowed: {
    httpStatus: 403,
    rpcCode: RpcCode.permissionDenied,
    type: "invalid_request_error",
    retry: false,
    blame: "caller",
    meaning: "The `host` header names somebody else: a port on a loopback address takes `localhost`, addresses and `TOLLGATE_ALLOWED_HOSTS`.",
  },
  missing_api_key: { httpStatus: 401, rpcCode: RpcCode.unauthenticated, type: "auth_error", retry: false, blame: "caller", meaning: "No virtual key was sent." },
  invalid_api_key: { httpStatus: 401, rpcCode: RpcCode.unauthenticated, type: "auth_error", retry: false, blame: "caller", meaning: "The key is not of a virtual key's form, or there is no such key." },
  expired_key: { httpStatus: 401, rpcCode: RpcCode.unauthenticated, type: "expired_key", retry: false, blame: "caller", meaning: "The key's time is over." },
  blocked_key: { httpStatus: 403, rpcCode: RpcCode.permissionDenied, type: "auth_error", retry: false, blame: "caller", meaning: "An operator has blocked the key." },
  permission_denied: { httpStatus: 403, rpcCode: RpcCode.permissionDenied, type: "auth_error", retry: false, blame: "caller", meaning: "The key may not do this." },
  team_member_permission_error: { httpStatus: 401, rpcCode: RpcCode.permissionDenied, type: "team_member_permission_error", retry: false, blame: "caller", meaning: "Administration: a member of the team without the permission for this." },
  model_not_allowed: { httpStatus: 403, rpcCode: RpcCode.permissionDenied, type: "key_model_access_denied", retry: false, blame: "caller", meaning: "The key's whitelist does not have the model, or no deployment has the call's tags." },
  region_not_allowed: { httpStatus: 403, rpcCode: RpcCode.permissionDenied, type: "key_model_access_denied", retry: false, blame: "caller", meaning: "No deployment of the model answers in the region that the call's end user is held to." },
  model_not_found: { httpStatus: 404, rpcCode: RpcCode.notFound, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The configuration has no such model." },
  response_not_found: { httpStatus: 404, rpcCode: RpcCode.notFound, type: "invalid_request_error", retry: false, blame: "caller", meaning: "There is no such stored response, or it is another team's." },
  not_found: { httpStatus: 404, rpcCode: RpcCode.notFound, type: "not_found_error", retry: false, blame: "caller", meaning: "Administration: the named thing does not exist." },
  key_not_found: { httpStatus: 404, rpcCode: RpcCode.notFound, type: "not_found_error", retry: false, blame: "caller", meaning: "KeyService to sidecar: there is definitely no such key." },
  already_exists: { httpStatus: 400, rpcCode: RpcCode.alreadyExists, type: "bad_request_error", retry: false, blame: "caller", meaning: "Administration: the name is taken." },
  conflict: { httpStatus: 409, rpcCode: RpcCode.aborted, type: "conflict_error", retry: false, blame: "caller", meaning: "Administration: the thing was changed meanwhile (etag)." },
  model_storage_off: { httpStatus: 500, rpcCode: RpcCode.failedPrecondition, type: "auth_error", retry: false, blame: "operator", meaning: "Administration: models are not kept in the database; `store_model_in_db` is not on." },
  secrets_unreadable: {
    httpStatus: 500,
    rpcCode: RpcCode.failedPrecondition,
    type: "configuration_error",
    retry: false,
    blame: "operator",
    meaning: "Administration: stored secrets do not open with the keys the KeyService has: the salt key and `TOLLGATE_ENCRYPTION_KEYS`.",
  },
  duplicate_request: {
    httpStatus: 409,
    rpcCode: RpcCode.aborted,
    type: "idempotency_error",
    retry: true,
    blame: "caller",
    meaning: "Another call with the same `Idempotency-Key` is under way, or was answered (then it is not to be retried).",
  },
  idempotency_key_reused: { httpStatus: 422, rpcCode: RpcCode.invalidArgument, type: "idempotency_error", retry: false, blame: "caller", meaning: "The `Idempotency-Key` came with another request before." },
  context_length_exceeded: { httpStatus: 400, rpcCode: RpcCode.invalidArgument, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The conversation is too long for the model." },
  content_policy_violation: { httpStatus: 400, rpcCode: RpcCode.invalidArgument, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The provider refused the content." },
  provider_rejected: { httpStatus: 400, rpcCode: RpcCode.invalidArgument, type: "invalid_request_error", retry: false, blame: "caller", meaning: "The provider found the request invalid; the message is its own." },
  rate_limit_exceeded: { httpStatus: 429, rpcCode: RpcCode.resourceExhausted, type: "rate_limit_error", retry: true, blame: "caller", meaning: "A requests, tokens or parallel limit is reached; `retry-after` is true." },
  budget_exceeded: { httpStatus: 429, rpcCode: RpcCode.resourceExhausted, type: "budget_exceeded", retry: false, blame: "caller", meaning: "A budget has no room for the call; the message names the scope and both figures." },
  deployments_full: {
    httpStatus: 429,
    rpcCode: RpcCode.resourceExhausted,
    type: "rate_limit_error",
    retry: true,
    blame: "operator",
    meaning: "Every deployment of the model is at a limit of its own (`rpm`, `tpm`, `max_parallel_requests`, a budget of its own or its provider's); `retry-after` is true.",
  },
  provider_rate_limited: { httpStatus: 429, rpcCode: RpcCode.resourceExhausted, type: "rate_limit_error", retry: true, blame: "provider", meaning: "Every deployment tried was rate limited by its provider." },
  provider_auth_failed: { httpStatus: 502, rpcCode: RpcCode.failedPrecondition, type: "provider_error", retry: false, blame: "operator", meaning: "The provider refused the gateway's own credentials." },
  provider_model_not_found: { httpStatus: 502, rpcCode: RpcCode.failedPrecondition, type: "provider_error", retry: false, blame: "operator", meaning: "The provider does not know the configured model or path." },
  provider_error: { httpStatus: 502, rpcCode: RpcCode.unavailable, type: "provider_error", retry: true, blame: "provider", meaning: "The provider failed, or answered something that is no completion." },
  provider_unavailable: { httpStatus: 503, rpcCode: RpcCode.unavailable, type: "provider_error", retry: true, blame: "provider", meaning: "The provider could not be reached, or is overloaded." },
  provider_timeout: { httpStatus: 504, rpcCode: RpcCode.deadlineExceeded, type: "provider_error", retry: true, blame: "provider", meaning: "The provider did not answer in time." },
  stream_interrupted: { httpStatus: 502, rpcCode: RpcCode.unavailable, type: "provider_error", retry: true, blame: "provider", meaning: "The provider broke off in the middle of a stream; what came before is incomplete." },
  deadline_exceeded: { httpStatus: 504, rpcCode: RpcCode.deadlineExceeded, type: "timeout_error", retry: false, blame: "caller", meaning: "The caller's own deadline passed." },
  client_closed_request: { httpStatus: 499, rpcCode: RpcCode.cancelled, type: "client_closed_request", retry: false, blame: "caller", meaning: "The caller went away (seen in logs only)." },
  unpriced_model: { httpStatus: 503, rpcCode: RpcCode.failedPrecondition, type: "configuration_error", retry: false, blame: "operator", meaning: "The key has a budget, and the model has no price to hold it to." },
  keyservice_unavailable: { httpStatus: 503, rpcCode: RpcCode.unavailable, type: "service_unavailable", retry: true, blame: "gateway", meaning: "The KeyService could not be asked, and nothing cached decides." },
  counters_unavailable: { httpStatus: 503, rpcCode: RpcCode.unavailable, type: "service_unavailable", retry: true, blame: "gateway", meaning: "Redis could not be asked whether a limit has room." },
  journal_unavailable: { httpStatus: 503, rpcCode: RpcCode.unavailable, type: "service_unavailable", retry: true, blame: "gateway", meaning: "Spend cannot be recorded (disk full?), so nothing is spent." },
  shutting_down: { httpStatus: 503, rpcCode: RpcCode.unavailable, type: "service_unavailable", retry: true, blame: "gateway", meaning: "The process is draining." },
  internal_error: { httpStatus: 500, rpcCode: RpcCode.internal, type: "internal_server_error", retry: false, blame: "gateway", meaning: "A bug of ours; the log has it under the request id." },
} as const satisfies Record<string, ErrorKind>;

/** What can go wrong; the keys of the error table. */
export type ErrorCode = keyof typeof errorTable;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorTable, text);
}

/** How far a call came before it failed. */
export interface Trail {
  /** What the spend log knows it by. */
  readonly callId: string;
  /** Attempts at providers. */
  readonly attempts: number;
  /** Of them, changes of the group, or of its deployments after the retries. */
  readonly fallbacks: number;
  readonly modelGroup: string;
  /** Of the last attempt; undefined: there was none. */
  readonly deploymentId: string | undefined;
  /** How long the last attempt might have taken, in milliseconds. */
  readonly timeoutMs: number | undefined;
}

/** What to say of a failure besides its code and message. */
export interface ErrorFacts {
  /** It repeats, or its cause does, what a provider said, who may have quoted the prompt. Absent: it is in our own words. */
  readonly quotesProvider?: boolean;
  /** The request field at fault. */
  readonly param?: string;
  /** How long to wait before trying again, in milliseconds. Only for codes that may be retried. */
  readonly retryAfterMs?: number;
  /** Everything variable in the message, for programs: `ErrorInfo.metadata`. Never secrets. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Overrides the table's `retry`: false once the gateway has used up its own retries. */
  readonly retry?: boolean;
  /** Of calls that were under way. */
  readonly trail?: Trail;
  /** What happened underneath; for the log, never for the caller. */
  readonly cause?: unknown;
}

/** A failure with two messages: `message` is for the caller, `cause` for the log. */
export class GatewayError extends Error {
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, publicMessage: string, facts: ErrorFacts = {}) {
    super(publicMessage, { cause: facts.cause });
    this.name = "GatewayError";
    this.code = code;
    this.facts = facts;
  }

  get kind(): ErrorKind {
    return errorTable[this.code];
  }

  /** Whether the caller may try the same call again. */
  get shouldRetry(): boolean {
    return this.facts.retry ?? this.kind.retry;
  }

  /** Turns anything thrown into a GatewayError; what is not one already is a bug of ours. */
  static from(thrown: unknown): GatewayError {
    if (thrown instanceof GatewayError) return thrown;
    return new GatewayError("internal_error", "Internal error. Quote the request id when you report it.", { cause: thrown });
  }
}

/** A failed provider attempt. */
export class ProviderFailure extends GatewayError {
  /** Whether the provider had the whole request and may charge for it: a timeout is billable, a refused connection or a 500 is not. */
  readonly billable: boolean;

  constructor(code: ErrorCode, publicMessage: string, facts: ErrorFacts & { readonly billable: boolean }) {
    super(code, publicMessage, facts);
    this.name = "ProviderFailure";
    this.billable = facts.billable;
  }
}
