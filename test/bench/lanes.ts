import { create, toBinary } from "@bufbuild/protobuf";
import { CompleteRequestSchema, Role } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { framed } from "../../src/server/grpc-message.ts";

/** What a call is like in each lane. */
export interface Lane {
  readonly name: string;
  readonly bodyBytes: number;
  readonly isStream: boolean;
  /** Which key it is made with. */
  readonly key: "plain" | "governed";
  /** The wire of the second is another than the door's. */
  readonly model: "bench" | "translated";
  /** The door. */
  readonly by: "http" | "grpc";
  /** Connections, or calls at once where a connection carries many. */
  readonly connections: number;
}

const unary = { isStream: false, key: "governed", model: "bench", by: "http", connections: 64 } as const;

export const lanes: readonly Lane[] = [
  { ...unary, name: "plain, 1 KB", bodyBytes: 1_000, key: "plain" },
  { ...unary, name: "governed, 1 KB", bodyBytes: 1_000 },
  { ...unary, name: "governed, 20 KB", bodyBytes: 20_000 },
  { ...unary, name: "governed, 200 KB", bodyBytes: 200_000, connections: 16 },
  { ...unary, name: "governed stream", bodyBytes: 1_000, isStream: true, connections: 100 },
  { ...unary, name: "translated, 1 KB", bodyBytes: 1_000, model: "translated" },
  { ...unary, name: "gRPC, 1 KB", bodyBytes: 1_000, by: "grpc" },
];

/** A body of about so many bytes. The flag comes first, where the upstream looks for it. */
export function bodyOf({ bodyBytes, isStream, model, by }: Lane): Buffer {
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
  return Buffer.from(JSON.stringify({ stream: isStream, model, max_tokens: outputTokens, messages }));
}
