/** Spans around RPCs, at both of their ends. Streams are left out: they last for hours. */

import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { clientSpan, withinSpan } from "../active-span.ts";
import { GatewayError } from "../errors.ts";
import type { Tracer } from "./tracer.ts";

type AnyRequest = Parameters<ReturnType<Interceptor>>[0];

/** A status by gRPC's name: 8 -> "RESOURCE_EXHAUSTED". */
export function rpcStatusName(code: number): string {
  if (code === 0) return "OK";
  const name = Code[code] ?? "Unknown";
  return name.replace(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

/** Of RPCs that are answered here: below their caller's span, if it sends its context. */
export function serverSpans(tracer: Tracer): Interceptor {
  return (next) => async (request) => {
    if (request.stream) return next(request);
    let status = 0;
    const describe = () => ({ ...attributesOf(request), "rpc.response.status_code": rpcStatusName(status) });
    const header = (name: string) => request.header.get(name) ?? undefined;
    const headers = { traceparent: header("traceparent"), tracestate: header("tracestate") };
    const span = tracer.server(nameOf(request), headers, {}, describe);
    try {
      return await withinSpan(span, () => next(request));
    } catch (thrown) {
      status = statusOf(thrown);
      throw thrown;
    } finally {
      span.end(status === 0 ? undefined : rpcStatusName(status), isOurs(status));
    }
  };
}

/** Of RPCs that are asked from here, if they are asked for something that is traced. They carry its context. */
export const clientSpans: Interceptor = (next) => async (request) => {
  const span = request.stream ? undefined : clientSpan(nameOf(request), attributesOf(request));
  if (span === undefined) return next(request);
  request.header.set("traceparent", span.traceparent);
  if (span.tracestate !== undefined) request.header.set("tracestate", span.tracestate);
  let status = 0;
  try {
    return await next(request);
  } catch (thrown) {
    status = statusOf(thrown);
    throw thrown;
  } finally {
    span.annotate({ "rpc.response.status_code": rpcStatusName(status) });
    span.end(status === 0 ? undefined : rpcStatusName(status));
  }
};

function nameOf({ service, method }: AnyRequest): string {
  return `${service.typeName}/${method.name}`;
}

function attributesOf(request: AnyRequest) {
  return { "rpc.system.name": "grpc", "rpc.method": nameOf(request) };
}

function statusOf(thrown: unknown): number {
  return thrown instanceof GatewayError ? thrown.kind.rpcCode : ConnectError.from(thrown).code;
}

const ourStatuses: ReadonlySet<number> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

/** Whether a status says that the service is at fault, and not the request. */
function isOurs(status: number): boolean {
  return ourStatuses.has(status);
}
