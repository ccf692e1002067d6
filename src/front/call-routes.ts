/** The routes by which models are called: how each reads its body and writes its answer. */

import type { CompletionRequest, FormOperation } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { decodeMessagesRequest } from "../wires/anthropic-body.ts";
import { rewriteMembers, scanObject } from "../wires/json-spans.ts";
import { boundaryOf } from "../wires/multipart.ts";
import { decodeChatRequest } from "../wires/openai-chat.ts";
import { decodeForm, withFields, withLength } from "../wires/openai-form.ts";
import { decodeOperation, type JsonOperation } from "../wires/openai-operation.ts";
import { recordingSeconds } from "../wires/recording-length.ts";
import { decodeResponsesRequest } from "../wires/responses-body.ts";
import { type AnswerFormat, anthropicFormat, openAiFormat, responsesFormat } from "./answer-format.ts";
import type { BodyKind } from "./http-body.ts";

/** A route by which a model is called. */
export interface Wanted {
  readonly route: string;
  readonly door: string;
  readonly format: AnswerFormat;
  /** What the body must be. */
  readonly takes: BodyKind;
  /** @param contentType of the body. */
  readonly decode: (
    body: Buffer,
    contentType: string,
  ) => CompletionRequest | GatewayError | Promise<CompletionRequest | GatewayError>;
  /** Headers of the wire that go with the request. */
  readonly wireHeaders: readonly string[];
}

const chatCompletion: Wanted = {
  route: "/v1/chat/completions",
  door: "openai",
  format: openAiFormat,
  takes: "json",
  decode: decodeChatRequest,
  wireHeaders: ["anthropic-beta"],
};

const message: Wanted = {
  route: "/v1/messages",
  door: "anthropic",
  format: anthropicFormat,
  takes: "json",
  decode: (body) => decodeMessagesRequest(body, { counts: false }),
  wireHeaders: ["anthropic-version", "anthropic-beta"],
};

export const messageCount: Wanted = { ...message, decode: (body) => decodeMessagesRequest(body, { counts: true }) };

const response: Wanted = {
  route: "/v1/responses",
  door: "openai",
  format: responsesFormat,
  takes: "json",
  decode: decodeResponsesRequest,
  wireHeaders: [],
};

const openAi = { door: "openai", format: openAiFormat, wireHeaders: [] } as const;
const plain = (route: string, operation: JsonOperation): Wanted => ({
  ...{ ...openAi, route, takes: "json" },
  decode: (body) => decodeOperation(operation, body),
});
const form = (route: string, operation: FormOperation): Wanted => ({
  ...{ ...openAi, route, takes: "form" },
  decode: (body, contentType) => decodeRecording(operation, body, contentType),
});
const rerank = plain("/v1/rerank", "rerank");

/** OpenAI's, each there without `/v1` too. */
const openAiRoutes: readonly Wanted[] = [
  chatCompletion,
  plain("/v1/embeddings", "embeddings"),
  plain("/v1/completions", "text_completion"),
  plain("/v1/moderations", "moderation"),
  rerank,
  plain("/v1/images/generations", "image_generation"),
  plain("/v1/audio/speech", "speech"),
  form("/v1/audio/transcriptions", "transcription"),
  form("/v1/audio/translations", "translation"),
];

/** By path. */
export const callRoutes: readonly (readonly [path: string, wanted: Wanted])[] = [
  ["/openai/v1/responses", response],
  ["/openai/responses", response],
  ["/v1/messages", message],
  ["/anthropic/v1/messages", message],
  ...[...openAiRoutes, response].flatMap((wanted) => [
    [wanted.route, wanted] as const,
    [wanted.route.slice("/v1".length), wanted] as const,
  ]),
  ["/v2/rerank", rerank],
];

const inPath: ReadonlyMap<string, Wanted> = new Map(
  openAiRoutes.map((wanted) => [wanted.route.slice("/v1/".length), wanted]),
);

/**
 * The routes that have the model in their path, as Azure's clients and those of OpenAI's former engines write them.
 *
 * @returns undefined if it is none.
 */
export function routeWithModel(path: string): Wanted | undefined {
  const [, encoded = "", operation = ""] =
    /^\/(?:openai\/deployments|engines|v1\/engines)\/(.+?)\/((?:chat\/|images\/|audio\/)?[a-z]+)$/.exec(path) ?? [];
  const wanted = inPath.get(operation);
  const name = decodePath(encoded);
  if (wanted === undefined || name === undefined) return undefined;
  return { ...wanted, decode: (body, contentType) => wanted.decode(withModel(body, contentType, name), contentType) };
}

/** A body with another model's name, or with one where it had none. */
function withModel(body: Buffer, contentType: string, model: string): Buffer {
  const boundary = boundaryOf(contentType);
  if (boundary !== undefined) return withFields(body, boundary, new Map([["model", model]]));
  const { spans } = scanObject(body);
  return rewriteMembers({ bytes: body, spans }, new Map([["model", JSON.stringify(model)]]));
}

/** A form, once the length of its recording is known. */
async function decodeRecording(
  operation: FormOperation,
  body: Buffer,
  contentType: string,
): Promise<CompletionRequest | GatewayError> {
  const boundary = boundaryOf(contentType) ?? "";
  const decoded = decodeForm(operation, body, boundary);
  if (decoded instanceof GatewayError) return decoded;
  const seconds = await recordingSeconds(decoded.recording);
  return withLength(decoded, seconds);
}

/** A part of a path as it was before it was written into one; undefined for what nobody can have written so. */
export function decodePath(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
