import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { ConnectError, type Transport } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { completionMethods } from "../../src/front/completion-methods.ts";
import type { TypedGateway } from "../../src/front/doors.ts";
import { CompletionService, Role } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import type { ListenOptions } from "../../src/server/listen.ts";
import { errorInfo } from "../../src/server/rpc-error.ts";
import { openPort, type TestPort } from "../server/port.ts";

export const chat = { model: "m", messages: [{ role: Role.USER, text: "hi" }] };
export const servicePath = `/${CompletionService.typeName}`;

const http1 = { httpVersion: "1.1" } as const;
const http2 = { httpVersion: "2" } as const;
const gzip = { sendCompression: compressionGzip, acceptCompression: [compressionGzip] };

/** Every way a call may come by. */
export const transports: readonly [string, (baseUrl: string) => Transport][] = [
  ["Connect over HTTP/1.1", (baseUrl) => createConnectTransport({ baseUrl, ...http1 })],
  ["Connect over HTTP/2", (baseUrl) => createConnectTransport({ baseUrl, ...http2 })],
  ["Connect in binary", (baseUrl) => createConnectTransport({ baseUrl, ...http2, useBinaryFormat: true })],
  ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
  ["gRPC in JSON", (baseUrl) => createGrpcTransport({ baseUrl, useBinaryFormat: false })],
  ["gRPC with gzip", (baseUrl) => createGrpcTransport({ baseUrl, ...gzip })],
  ["gRPC-Web over HTTP/1.1", (baseUrl) => createGrpcWebTransport({ baseUrl, ...http1 })],
  ["gRPC-Web over HTTP/2 with gzip", (baseUrl) => createGrpcWebTransport({ baseUrl, ...http2, ...gzip })],
];

/** CompletionService on a port of its own. */
export function openDoor(
  t: TestContext,
  gateway: TypedGateway,
  options: Partial<ListenOptions> = {},
): Promise<TestPort> {
  return openPort(t, { services: [CompletionService], methods: completionMethods(gateway), ...options });
}

export async function drain<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

export async function failureOf(promise: Promise<unknown>): Promise<ConnectError> {
  return promise.then(
    () => assert.fail("succeeded"),
    (error: unknown) => {
      assert.ok(error instanceof ConnectError, String(error));
      return error;
    },
  );
}

export function reasonOf(error: ConnectError) {
  const info = errorInfo(error);
  return info && { reason: info.reason, metadata: info.metadata };
}
