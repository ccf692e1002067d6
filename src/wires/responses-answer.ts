/** OpenAI's responses: reading a whole answer, and the names callers know answers by. */

import type { JsonObject, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { rewriteMembers, scanObject } from "./json-spans.ts";
import { hasError } from "./openai-chat-answer.ts";
import { inBandError } from "./openai-error.ts";
import { readUsage } from "./responses-usage.ts";

/** What the caller knows answers by, in place of the provider's ids. */
export interface ResponseNames {
  /** Names an answer by the provider's id of it; absent: that is its name. */
  readonly nameOf?: ((responseId: string) => string) | undefined;
  /** The answer that this one goes on with, as the caller named it. */
  readonly previous?: string | undefined;
}

/** A whole answer, read. */
export interface ResponseAnswer {
  /** What the provider reported; undefined if it reported nothing. */
  readonly usage: Usage | undefined;
  readonly responseId: string | undefined;
  /** As the caller gets it. */
  readonly bytes: Buffer;
  /** Roughly the tokens in it. */
  readonly outputTokens: number;
  /** What the bytes say. */
  readonly body: JsonObject;
}

/**
 * Reads a unary answer (status 200).
 *
 * @returns a GatewayError if it is no response (`provider_error`), or one that failed.
 */
export function readResponse(bytes: Buffer, names: ResponseNames): ResponseAnswer | GatewayError {
  const body = parseJson(bytes.toString());
  if (!isObject(body)) {
    return new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
  }
  if (hasError(body)) return inBandError(body);
  if (!Array.isArray(body.output)) {
    return new GatewayError("provider_error", "The provider answered something that is no response.");
  }
  return {
    usage: readUsage(body.usage, body.service_tier),
    responseId: textOf(body.id),
    bytes: renamed(bytes, body, names),
    outputTokens: Math.ceil(textBytes(body) / 4),
    body,
  };
}

/**
 * A response's bytes with the ids its caller knows; everything else stays byte for byte.
 *
 * @param body what the bytes say.
 */
export function renamed(bytes: Buffer, body: JsonObject, { nameOf, previous }: ResponseNames): Buffer {
  const [id, before] = [textOf(body.id), textOf(body.previous_response_id)];
  const changes = new Map<string, string>();
  if (id !== undefined && nameOf !== undefined) changes.set("id", JSON.stringify(nameOf(id)));
  const named = before && (previous ?? nameOf?.(before));
  if (named !== undefined) changes.set("previous_response_id", JSON.stringify(named));
  return changes.size === 0 ? bytes : rewriteMembers({ bytes, spans: scanObject(bytes).spans }, changes);
}

/**
 * A stored response, or what is said of one, with the ids its caller knows.
 *
 * @throws GatewayError provider_error if it is no JSON object.
 */
export function renamedResponse(bytes: Buffer, names: ResponseNames): Buffer {
  const body = parseJson(bytes.toString());
  if (isObject(body)) return renamed(bytes, body, names);
  throw new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
}

function textBytes(body: JsonObject): number {
  let bytes = 0;
  for (const value of arrayOf(body.output)) {
    const item = objectOf(value) ?? {};
    bytes += Buffer.byteLength(`${textOf(item.name) ?? ""}${textOf(item.arguments) ?? ""}`);
    for (const part of arrayOf(item.content)) bytes += Buffer.byteLength(textOf(objectOf(part)?.text) ?? "");
  }
  return bytes;
}
