/** What a deployment is asked to find out whether it is well: as little as its model can be asked. */

import type { CompletionRequest, Operation } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import { GatewayError } from "../errors.ts";
import { decodeChatRequest } from "../wires/openai-chat.ts";
import { decodeOperation } from "../wires/openai-operation.ts";
import { operationModes } from "./operations.ts";

const text = "hi";
const bodies: Readonly<Record<Operation, object>> = {
  chat: { messages: [{ role: "user", content: text }], max_tokens: 1 },
  embeddings: { input: text },
  text_completion: { prompt: text, max_tokens: 1 },
  moderation: { input: text },
  rerank: { query: text, documents: [text] },
};

const operations = Object.keys(bodies) as readonly Operation[];
const byMode: ReadonlyMap<string, CompletionRequest> = new Map([
  ...operations.map((operation) => [operationModes[operation], requestFor(operation)] as const),
  // LiteLLM's word for chat models behind `/v1/responses`, which takes no smaller cap.
  ["responses", requestFor("chat", { max_tokens: 16 })],
]);

/** @returns undefined for a model that is for something nobody can ask it for. */
export function checkRequestFor({ mode, wire }: Deployment): CompletionRequest | undefined {
  const request = byMode.get(mode ?? operationModes.chat);
  return request?.operation === "chat" || wire === "openai-chat" ? request : undefined;
}

function requestFor(operation: Operation, fields: object = {}): CompletionRequest {
  const bytes = Buffer.from(JSON.stringify({ model: "health-check", ...bodies[operation], ...fields }));
  const request = operation === "chat" ? decodeChatRequest(bytes) : decodeOperation(operation, bytes);
  if (request instanceof GatewayError) throw request;
  return request;
}
