/** Failures over RPC: what a handler throws becomes a status with google.rpc details, and back again on the client's side. */

import { pathToString } from "@bufbuild/protobuf/reflect";
import { ValidationError, type ValidationResult, violationsToProto } from "@bufbuild/protovalidate";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ErrorCode, GatewayError } from "../errors.ts";
import {
  type BadRequest_FieldViolation,
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb.ts";

/** `ErrorInfo.domain` of every failure of ours. */
const errorDomain = "tollgate.dev";

/** What `google.rpc.ErrorInfo` says to programs. `reason` is an ErrorCode in capitals when the server is ours. */
export interface ErrorReason {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
}

type OutgoingDetail = Extract<ConnectError["details"][number], { desc: unknown }>;

/** The ErrorInfo of a received error; undefined if a server of ours did not send it (a proxy, a broken connection). */
export function errorInfo(error: ConnectError): ErrorReason | undefined {
  return error.findDetails(ErrorInfoSchema).find((info) => info.domain === errorDomain);
}

/** A failure as RPC sends it: status, message, google.rpc details, and the retry headers the HTTP doors also set. */
export function toConnectError(error: GatewayError): ConnectError {
  const { param, retryAfterMs, metadata = {} } = error.facts;
  const details: OutgoingDetail[] = [info(error.code, metadata)];
  if (param !== undefined) details.push(badRequest([{ field: param, description: error.message }]));
  if (error.code === "rate_limit_exceeded" || error.code === "budget_exceeded") {
    const subject = `${metadata.scope ?? ""}:${metadata.scopeId ?? ""}`;
    const violations = [{ subject, description: error.message }];
    details.push({ desc: QuotaFailureSchema, value: { violations } });
  }
  const headers: Record<string, string> = { "x-should-retry": String(error.shouldRetry) };
  if (retryAfterMs !== undefined) {
    const ms = Math.ceil(retryAfterMs);
    const retryDelay = { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
    details.push({ desc: RetryInfoSchema, value: { retryDelay } });
    headers["retry-after-ms"] = String(ms);
    headers["retry-after"] = String(Math.ceil(ms / 1000));
  }
  // A caller's half characters, quoted back, cannot be percent-encoded.
  return new ConnectError(error.message.toWellFormed(), error.kind.rpcCode, headers, details, error);
}

/** Turns what a handler threw into what is sent. What is neither ours nor connect's own is a bug. */
export function rpcErrorFrom(thrown: unknown): ConnectError {
  if (!(thrown instanceof ConnectError)) return toConnectError(GatewayError.from(thrown));
  if (thrown.code === Code.InvalidArgument && thrown.cause !== undefined) explainViolations(thrown, thrown.cause);
  describe(thrown);
  return thrown;
}

/**
 * What is sent for what a handler threw.
 *
 * @param signal the call's: after an abort, foreign errors are its consequences.
 * @param report told of what is a bug of ours.
 */
export function answeredError(thrown: unknown, signal: AbortSignal, report: (error: unknown) => void): ConnectError {
  const ours = thrown instanceof ConnectError || thrown instanceof GatewayError;
  const error = rpcErrorFrom(!ours && signal.aborted ? abortReason(signal.reason) : thrown);
  const failure = gatewayErrorOf(error);
  if (failure.code === "internal_error") report(failure.cause ?? failure);
  return error;
}

/** A message breaks the schema's rules: with protovalidate's own detail, as connect's interceptor has it. */
export function ruleError({ error, violations }: Exclude<ValidationResult, { kind: "valid" }>): ConnectError {
  const details: OutgoingDetail[] = [];
  if (violations !== undefined) {
    const [value, desc] = violationsToProto(violations);
    details.push({ desc, value });
  }
  return new ConnectError(error.message, Code.InvalidArgument, undefined, details, error);
}

/** The failure of ours an error about to be sent was made of, or the nearest thing to it. */
export function gatewayErrorOf(error: ConnectError): GatewayError {
  if (error.cause instanceof GatewayError) return error.cause;
  return new GatewayError(codeOf(error), error.rawMessage, { cause: error });
}

/**
 * Why a call was aborted, as a failure of ours.
 *
 * @param reason an AbortSignal's: connect's own for a deadline, a shutdown's, else the connection's, whatever it is.
 */
export function abortReason(reason: unknown): GatewayError {
  if (reason instanceof GatewayError) return reason;
  if (reason instanceof ConnectError && reason.cause instanceof GatewayError) return reason.cause;
  if (reason instanceof ConnectError && reason.code === Code.DeadlineExceeded) {
    return new GatewayError("deadline_exceeded", "The deadline of the call passed.", { cause: reason });
  }
  return new GatewayError("client_closed_request", "The caller went away.", { cause: reason });
}

/**
 * Gives a status that connect itself made (a message over the size limit, a method nobody serves, broken input) the same
 * ErrorInfo and retry header as ours have. Does nothing to an error that has them.
 */
export function describe(error: ConnectError): void {
  if (isMalformed(error)) (error as { code: Code }).code = Code.InvalidArgument;
  if (error.details.some((detail) => typeNameOf(detail) === ErrorInfoSchema.typeName)) return;
  error.details.push(info(codeOf(error), {}));
  if (!error.metadata.has("x-should-retry")) error.metadata.set("x-should-retry", "false");
}

/** Whether a request's bytes are no message: connect takes that for a failure of its own. */
function isMalformed({ code, rawMessage }: ConnectError): boolean {
  return code === Code.Internal && /^(?:parse binary: |received compressed envelope, but)/.test(rawMessage);
}

/** Says in google.rpc's words which fields broke which of the schema's rules; protovalidate's own detail stays beside it. */
function explainViolations(error: ConnectError, cause: unknown): void {
  if (
    !(cause instanceof ValidationError) ||
    error.details.some((detail) => typeNameOf(detail) === BadRequestSchema.typeName)
  )
    return;
  const violations = cause.violations.map(({ field, message }) => ({
    field: pathToString(field),
    description: message,
  }));
  error.details.push(badRequest(violations));
}

function typeNameOf(detail: ConnectError["details"][number]): string {
  return "desc" in detail ? detail.desc.typeName : detail.type;
}

function info(code: ErrorCode, metadata: Readonly<Record<string, string>>): OutgoingDetail {
  return {
    desc: ErrorInfoSchema,
    value: { reason: code.toUpperCase(), domain: errorDomain, metadata: { ...metadata } },
  };
}

function badRequest(fieldViolations: Pick<BadRequest_FieldViolation, "field" | "description">[]): OutgoingDetail {
  return { desc: BadRequestSchema, value: { fieldViolations } };
}

function codeOf(error: ConnectError): ErrorCode {
  switch (error.code) {
    case Code.Canceled:
    case Code.Aborted:
      return "client_closed_request";
    case Code.InvalidArgument:
      return "invalid_request";
    case Code.DeadlineExceeded:
      return "deadline_exceeded";
    case Code.NotFound:
      return "not_found";
    case Code.Unimplemented:
      return "route_not_found";
    case Code.ResourceExhausted:
      return "body_too_large";
    default:
      return "internal_error";
  }
}
