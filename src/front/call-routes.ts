/** The routes by which models are called: how each reads its body and writes its answer. */

import type { CompletionRequest, PlainOperation } from "../completion.ts";
import type { GatewayError } from "../errors.ts";
import { decodeMessagesRequest } from "../wires/anthropic-body.ts";
import { rewriteMembers, scanObject } from "../wires/json-spans.ts";
import { decodeChatRequest } from "../wires/openai-chat.ts";
import { decodeOperation } from "../wires/openai-operation.ts";
import { decodeResponsesRequest } from "../wires/responses-body.ts";
import { type AnswerFormat, anthropicFormat, openAiFormat, responsesFormat } from "./answer-format.ts";

/** A route by which a model is called. */
export interface Wanted {
  readonly route: string;
  readonly door: string;
  readonly format: AnswerFormat;
  readonly decode: (body: Buffer) => CompletionRequest | GatewayError;
  /** Headers of the wire that go with the request. */
  readonly wireHeaders: readonly string[];
}

const chatCompletion: Wanted = {
  route: "/v1/chat/completions",
  door: "openai",
  format: openAiFormat,
  decode: decodeChatRequest,
  wireHeaders: ["anthropic-beta"],
};

const message: Wanted = {
  route: "/v1/messages",
  door: "anthropic",
  format: anthropicFormat,
  decode: (body) => decodeMessagesRequest(body, { counts: false }),
  wireHeaders: ["anthropic-version", "anthropic-beta"],
};

export const messageCount: Wanted = { ...message, decode: (body) => decodeMessagesRequest(body, { counts: true }) };

const response: Wanted = {
  route: "/v1/responses",
  door: "openai",
  format: responsesFormat,
  decode: decodeResponsesRequest,
  wireHeaders: [],
};

const plain = (route: string, operation: PlainOperation): Wanted => ({
  ...{ route, door: "openai", format: openAiFormat, wireHeaders: [] },
  decode: (body) => decodeOperation(operation, body),
});
const embedding = plain("/v1/embeddings", "embeddings");
const textCompletion = plain("/v1/completions", "text_completion");

/** By path. */
export const callRoutes: readonly (readonly [path: string, wanted: Wanted])[] = [
  ["/openai/v1/responses", response],
  ["/openai/responses", response],
  ["/v1/messages", message],
  ["/anthropic/v1/messages", message],
  ...[
    chatCompletion,
    response,
    embedding,
    textCompletion,
    plain("/v1/moderations", "moderation"),
    plain("/v1/rerank", "rerank"),
  ].flatMap((wanted) => [[wanted.route, wanted] as const, [wanted.route.slice("/v1".length), wanted] as const]),
  ["/v2/rerank", plain("/v1/rerank", "rerank")],
];

const inPath: Readonly<Record<string, Wanted>> = {
  "chat/completions": chatCompletion,
  completions: textCompletion,
  embeddings: embedding,
};

/**
 * The routes that have the model in their path, as Azure's clients and those of OpenAI's former engines write them.
 *
 * @returns undefined if it is none.
 */
export function routeWithModel(path: string): Wanted | undefined {
  const [, encoded = "", operation = ""] =
    /^\/(?:openai\/deployments|engines|v1\/engines)\/(.+?)\/(chat\/completions|completions|embeddings)$/.exec(path) ??
    [];
  const wanted = inPath[operation];
  const name = decodePath(encoded);
  if (wanted === undefined || name === undefined) return undefined;
  const model = JSON.stringify(name);
  return {
    ...wanted,
    decode: (body) =>
      wanted.decode(rewriteMembers({ bytes: body, spans: scanObject(body).spans }, new Map([["model", model]]))),
  };
}

/** A part of a path as it was before it was written into one; undefined for what nobody can have written so. */
export function decodePath(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
