/** gRPC over HTTP/2, without connect: a call costs a fraction of what it costs there, and means the same. */

import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { createValidator } from "@bufbuild/protovalidate";
import { Roster } from "../roster.ts";
import { GrpcCall, type GrpcParts } from "./grpc-call.ts";
import { formatOf } from "./grpc-message.ts";
import { abortReason } from "./rpc-error.ts";
import { pathOf, type RpcMethod } from "./rpc-method.ts";

export interface GrpcDoorParts extends Omit<GrpcParts, "validator"> {
  readonly methods: readonly RpcMethod[];
  /** Aborts the calls still in flight when a shutdown's patience is over. */
  readonly shutdownSignal: AbortSignal;
}

/** Serves methods on HTTP/2 streams. */
export class GrpcDoor {
  readonly #parts: GrpcParts;
  readonly #methods: ReadonlyMap<string, RpcMethod>;
  readonly #calls = new Roster<GrpcCall>();
  readonly #onOver = (call: GrpcCall) => void this.#calls.delete(call);

  constructor({ methods, shutdownSignal, ...parts }: GrpcDoorParts) {
    this.#parts = { ...parts, validator: createValidator() };
    this.#methods = new Map(methods.map((method) => [pathOf(method), method]));
    shutdownSignal.addEventListener("abort", () => {
      for (const call of this.#calls.all()) call.abort(abortReason(shutdownSignal.reason));
    });
  }

  /** @returns whether the stream is a gRPC call of one of the methods; if not, it has not been touched. */
  accept(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean {
    const route = headers[":path"] ?? "";
    const method = this.#methods.get(route);
    if (method === undefined || headers[":method"] !== "POST") return false;
    const format = formatOf(headers["content-type"]);
    if (format === undefined) return false;
    const call = new GrpcCall(this.#parts, { stream, headers, method, route, format, onOver: this.#onOver });
    this.#calls.add(call);
    call.start();
    return true;
  }
}
