/** RPC methods as a service writes them: the same for gRPC, gRPC-Web and Connect. */

import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";

/** What a method is told of a call, whichever protocol it came by. */
export interface RpcCall {
  /** The answer has it as `x-request-id`. */
  readonly requestId: string;
  /** "/package.Service/Method". */
  readonly route: string;
  /** Aborts when the caller goes away, its deadline passes or a shutdown cuts it off; `reason` is then a GatewayError. */
  readonly signal: AbortSignal;
  /** A header of the request, by its lower-case name; undefined if it is absent or empty. */
  header(name: string): string | undefined;
  /** Adds a header to the answer. Has no effect after the first message. */
  answerHeader(name: string, value: string): void;
}

/** One message in, one out. A failure is thrown, as a GatewayError. */
export interface UnaryMethod {
  readonly desc: DescMethodUnary;
  run(message: MessageShape<DescMessage>, call: RpcCall): Promise<MessageInitShape<DescMessage>>;
}

/** One message in, many out. Whoever wants no more of them `return()`s the iterator. A failure is thrown, as a GatewayError. */
export interface StreamMethod {
  readonly desc: DescMethodServerStreaming;
  run(message: MessageShape<DescMessage>, call: RpcCall): AsyncIterable<MessageInitShape<DescMessage>>;
}

export type RpcMethod = UnaryMethod | StreamMethod;

/** Writes a method in the types of its own messages. What `run` is given keeps the schema's rules. */
export function unaryMethod<In extends DescMessage, Out extends DescMessage>(
  desc: DescMethodUnary<In, Out>,
  run: (message: MessageShape<In>, call: RpcCall) => Promise<MessageInitShape<Out>>,
): RpcMethod {
  return { desc, run } as UnaryMethod;
}

/** Likewise. */
export function streamMethod<In extends DescMessage, Out extends DescMessage>(
  desc: DescMethodServerStreaming<In, Out>,
  run: (message: MessageShape<In>, call: RpcCall) => AsyncIterable<MessageInitShape<Out>>,
): RpcMethod {
  return { desc, run } as StreamMethod;
}

/** Where a method is called. */
export function pathOf({ desc }: RpcMethod): string {
  return `/${desc.parent.typeName}/${desc.name}`;
}

export function isUnary(method: RpcMethod): method is UnaryMethod {
  return method.desc.methodKind === "unary";
}
