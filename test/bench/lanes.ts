import { create, toBinary } from "@bufbuild/protobuf";
import { CompleteRequestSchema, Role } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { framed } from "../../src/server/grpc-message.ts";
import { type StreamShape, shapeField, shapeText, usualShape } from "./stream-shape.ts";

/** How much of what happens is told: no spans, those of each tenth call, or of all. */
export type Traced = "none" | "tenth" | "all";

/** The thinnest pipe by Node, a bare service by connect-node, a sidecar that tells nothing of its calls. */
export type Floor = "pipe" | "connect-node" | "untraced sidecar";

/** What a call is like in each lane. */
export interface Lane {
  readonly name: string;
  readonly bodyBytes: number;
  /** Undefined: the answer is whole. */
  readonly stream: StreamShape | undefined;
  /** Which key it is made with. */
  readonly key: "plain" | "governed";
  /** The wire of the second is another than the door's. */
  readonly model: "bench" | "translated";
  readonly traced: Traced;
  /** The door. */
  readonly by: "http" | "grpc";
  /** What it is measured against. */
  readonly against: Floor;
  /** Connections, or calls at once where a connection carries many. */
  readonly connections: number;
  /** How long a turn is, in milliseconds: it holds whole calls. One call after the other, half as long. */
  readonly turnMs: number;
  /** So many times as many turns, where they differ much from each other and something is to be reached: of a crowd, and of one call after the other. */
  readonly times: { readonly busy: number; readonly alone: number };
}

const unary: Omit<Lane, "name"> = {
  ...{ bodyBytes: 1_000, stream: undefined, key: "governed", model: "bench", traced: "tenth", by: "http" },
  ...{ against: "pipe", connections: 64, turnMs: 500, times: { busy: 1, alone: 1 } },
};

export const lanes: readonly Lane[] = [
  { ...unary, name: "plain, 1 KB", key: "plain", traced: "none" },
  { ...unary, name: "governed, 1 KB", times: { busy: 1, alone: 4 } },
  { ...unary, name: "governed, 1 KB, every call traced", traced: "all" },
  {
    ...unary,
    name: "every call traced and logged, 1 KB",
    traced: "all",
    against: "untraced sidecar",
  },
  { ...unary, name: "governed, 20 KB", bodyBytes: 20_000 },
  { ...unary, name: "governed, 200 KB", bodyBytes: 200_000, connections: 16, times: { busy: 1, alone: 4 } },
  {
    ...unary,
    name: "governed stream",
    stream: usualShape,
    connections: 100,
    turnMs: 1_000,
    times: { busy: 4, alone: 1 },
  },
  { ...unary, name: "translated, 1 KB", model: "translated" },
  { ...unary, name: "gRPC, 1 KB", by: "grpc", against: "connect-node" },
];

/** A body of about so many bytes. How it is to be answered comes first, where the upstream looks for it. */
export function bodyOf({ bodyBytes, stream, model, by }: Pick<Lane, "bodyBytes" | "stream" | "model" | "by">): Buffer {
  const system = "You are a bench.";
  const text = "word ".repeat(Math.max(1, Math.floor((bodyBytes - 150) / 5)));
  const outputTokens = 200;
  if (by === "grpc") {
    const messages = [
      { role: Role.SYSTEM, text: system },
      { role: Role.USER, text },
    ];
    const chat = { model, messages, maxOutputTokens: outputTokens };
    return framed(toBinary(CompleteRequestSchema, create(CompleteRequestSchema, { chat })));
  }
  const messages = [
    { role: "system", content: system },
    { role: "user", content: text },
  ];
  const shape = stream === undefined ? {} : { [shapeField]: shapeText(stream) };
  const fields = { ...shape, stream: stream !== undefined, model, max_tokens: outputTokens, messages };
  return Buffer.from(JSON.stringify(fields));
}
