import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { create, type Message } from "@bufbuild/protobuf";
import type { Validator } from "@bufbuild/protovalidate";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { Rostered } from "../roster.ts";
import {
  acceptedEncodings,
  compressionOf,
  framed,
  type MessageFormat,
  MessageReader,
  prefixBytes,
  tooLarge,
} from "./grpc-message.ts";
import { okTrailers, trailersOf } from "./grpc-status.ts";
import { requestIdFrom } from "./request-id.ts";
import { answeredError, rpcErrorFrom, ruleError } from "./rpc-error.ts";
import type { OnBug } from "./rpc-handlers.ts";
import { isUnary, type RpcCall, type RpcMethod } from "./rpc-method.ts";

/** What all calls have in common. */
export interface GrpcParts {
  /** Of a message. */
  readonly readMaxBytes: number;
  readonly validator: Validator;
  readonly clock: Clock;
  readonly onBug: OnBug;
}

/** What differs. */
export interface GrpcRequest {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly method: RpcMethod;
  readonly route: string;
  readonly format: MessageFormat;
  /** Told once, when the call is over. */
  readonly onOver: (call: GrpcCall) => void;
}

/** Smaller messages are not compressed. */
const compressMinBytes = 1024;

/** One call by gRPC on the HTTP/2 stream it came by. */
export class GrpcCall implements RpcCall, Rostered {
  rosterIndex: number | undefined;
  readonly requestId: string;
  readonly #parts: GrpcParts;
  readonly #request: GrpcRequest;
  readonly #reader: MessageReader;
  readonly #abort = new AbortController();
  readonly #head: OutgoingHttpHeaders;
  #compression: Compression | undefined;
  #cancelDeadline: (() => void) | undefined;
  #isRunning = false;
  /** All is said, or nobody listens. */
  #isOver = false;
  /** Wakes whoever waits for the caller to read. */
  #resume: (() => void) | undefined;
  #trailers: OutgoingHttpHeaders = okTrailers;

  constructor(parts: GrpcParts, request: GrpcRequest) {
    this.#parts = parts;
    this.#request = request;
    this.#reader = new MessageReader(parts.readMaxBytes);
    this.requestId = requestIdFrom(request.headers["x-request-id"]);
    this.#head = { ":status": 200, "content-type": request.format.contentType, "x-request-id": this.requestId };
  }

  get route(): string {
    return this.#request.route;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  header(name: string): string | undefined {
    const value = this.#request.headers[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  }

  answerHeader(name: string, value: string): void {
    this.#head[name] = value;
  }

  /** Reads the request, and answers it. */
  start(): void {
    const { stream } = this.#request;
    stream.on("close", () => this.#onClose());
    // What broke it is told by "close".
    stream.on("error", ignore);
    try {
      this.#readHead();
    } catch (error) {
      this.#refuse(error);
      return;
    }
    stream.on("data", (piece: Buffer) => this.#take(piece));
    stream.on("end", () => {
      // A stream that is reset ends, too.
      if (!this.#isOver && !stream.aborted) void this.#answer();
    });
  }

  /** Ends the call. @param reason why, to its method and to its caller. */
  abort(reason: GatewayError): void {
    if (this.#isOver) return;
    this.#abort.abort(reason);
    this.#resume?.();
    if (!this.#isRunning) this.#refuse(reason);
  }

  #readHead(): void {
    const { readMaxBytes, clock } = this.#parts;
    const timeoutMs = timeoutMsOf(this.header("grpc-timeout"));
    if (timeoutMs !== undefined) {
      const late = () => this.abort(new GatewayError("deadline_exceeded", "The deadline of the call passed."));
      this.#cancelDeadline = clock.after(timeoutMs, late);
    }
    const encoding = this.header("grpc-encoding");
    if (encoding !== undefined) {
      this.#head["grpc-accept-encoding"] = acceptedEncodings;
      this.#compression = compressionOf(encoding);
    }
    // Said at once, not after all of it has been read: some clients never see an answer while they are still sending.
    if (Number(this.header("content-length") ?? 0) > readMaxBytes + prefixBytes) {
      throw tooLarge(readMaxBytes);
    }
  }

  #take(piece: Buffer): void {
    if (this.#isOver) return;
    try {
      this.#reader.push(piece);
    } catch (error) {
      this.#refuse(error);
    }
  }

  async #answer(): Promise<void> {
    const { method } = this.#request;
    this.#isRunning = true;
    let message: Message;
    try {
      message = await this.#message();
    } catch (error) {
      this.#refuse(error);
      return;
    }
    if (this.#isOver) return;
    try {
      if (isUnary(method)) {
        this.#finish(okTrailers, await this.#frameOf(await method.run(message, this)));
        return;
      }
      for await (const answer of method.run(message, this)) {
        this.#sendHead();
        if (!this.#request.stream.write(await this.#frameOf(answer))) await this.#drained();
        this.signal.throwIfAborted();
      }
      this.#finish(okTrailers);
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  async #message(): Promise<Message> {
    const { method, format } = this.#request;
    const { input } = method.desc;
    const bytes = await this.#reader.end(this.#compression);
    const message = parsed(() => format.parse(input, bytes));
    const result = this.#parts.validator.validate(input, message);
    if (result.kind !== "valid") throw ruleError(result);
    return message;
  }

  /** Compressed as the request was. */
  async #frameOf(answer: Parameters<typeof create>[1]): Promise<Buffer> {
    const { method, format } = this.#request;
    const { output } = method.desc;
    const bytes = format.serialize(output, create(output, answer));
    if (this.#compression === undefined || bytes.length < compressMinBytes) return framed(bytes);
    return framed(await this.#compression.compress(bytes), true);
  }

  /** Waits until the caller has read, or the call is aborted. */
  async #drained(): Promise<void> {
    const { stream } = this.#request;
    if (this.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#resume = resolve;
      stream.once("drain", resolve);
    });
    this.#resume = undefined;
  }

  #sendHead(): void {
    const { stream } = this.#request;
    if (stream.headersSent || stream.closed || stream.destroyed) return;
    if (this.#compression !== undefined) this.#head["grpc-encoding"] = this.#compression.name;
    stream.on("wantTrailers", () => stream.sendTrailers(this.#trailers));
    stream.respond(this.#head, { waitForTrailers: true });
  }

  /** Says what a method threw. */
  #fail(thrown: unknown): void {
    const report = (error: unknown) => this.#parts.onBug(error, this);
    this.#refuse(answeredError(thrown, this.signal, report));
  }

  /** Ends the call by an error. */
  #refuse(error: unknown): void {
    this.#finish({ ...trailersOf(rpcErrorFrom(error)), "x-request-id": this.requestId });
  }

  #finish(trailers: OutgoingHttpHeaders, lastFrame?: Buffer): void {
    if (this.#isOver) return;
    const { stream } = this.#request;
    this.#over();
    if (stream.closed || stream.destroyed) return;
    if (trailers !== okTrailers && !stream.headersSent) {
      // An error before any message is told in the head.
      stream.respond({ ...this.#head, ...trailers }, { endStream: true });
      return;
    }
    this.#sendHead();
    this.#trailers = trailers;
    stream.end(lastFrame);
  }

  #onClose(): void {
    // node keeps a stream until all garbage is collected, and with it would be kept all that the call has held.
    this.#request.stream.removeAllListeners().on("error", ignore);
    if (this.#isOver) return;
    this.#over();
    this.#abort.abort(new GatewayError("client_closed_request", "The caller went away."));
    this.#resume?.();
  }

  #over(): void {
    this.#isOver = true;
    this.#cancelDeadline?.();
    this.#request.onOver(this);
  }
}

function ignore(): void {}

const unitMs = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1_000],
  ["m", 1],
  ["u", 1e-3],
  ["n", 1e-6],
]);

/** @throws ConnectError INVALID_ARGUMENT at what is no `grpc-timeout`. */
function timeoutMsOf(timeout: string | undefined): number | undefined {
  if (timeout === undefined) return undefined;
  const [, digits, unit = ""] = /^(\d{1,8})([HMSmun])$/.exec(timeout) ?? [];
  const ms = unitMs.get(unit);
  if (digits !== undefined && ms !== undefined) return Number(digits) * ms;
  const message = "The header grpc-timeout must be up to eight digits and one of H, M, S, m, u, n.";
  throw new ConnectError(message, Code.InvalidArgument);
}

/** A parser's complaint is about what was sent. */
function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw ConnectError.from(error, Code.InvalidArgument);
  }
}
