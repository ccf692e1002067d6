import type { CompletionRequest, FormOperation, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { decodeChatRequest } from "./openai-chat.ts";
import { decodeForm, withFields } from "./openai-form.ts";
import { decodeOperation } from "./openai-operation.ts";

/**
 * A request with other values for some fields of its body, as a fallback asks for them.
 *
 * @param overrides in OpenAI's words.
 * @throws GatewayError invalid_request when there is no such request.
 */
export function withOverrides(request: CompletionRequest, overrides: JsonObject): CompletionRequest {
  const { stream, includeUsage, wire, operation } = request;
  const body = { ...request.chat(), model: request.model, ...overrides };
  if (operation === "transcription" || operation === "translation") return formWith(request, operation, overrides);
  const bytes = Buffer.from(JSON.stringify(body));
  const changed = operation === "chat" ? decodeChatRequest(bytes) : decodeOperation(operation, bytes);
  if (changed instanceof GatewayError) throw changed;
  if (operation !== "chat") return changed;
  const isNeutral = wire !== "openai-chat";
  const { unsayable } = request;
  return {
    ...changed,
    ...{ stream, includeUsage },
    ...(isNeutral && { wire: undefined, raw: undefined }),
    ...(unsayable !== undefined && { unsayable }),
  };
}

/** A form has texts only. */
function formWith(request: CompletionRequest, operation: FormOperation, overrides: JsonObject): CompletionRequest {
  const { raw, model, pieces, piecesMax } = request;
  if (raw?.boundary === undefined) throw new Error("a recording without its form");
  const changes = new Map([["model", model]]);
  for (const [name, value] of Object.entries(overrides)) {
    changes.set(name, typeof value === "string" ? value : JSON.stringify(value));
  }
  const decoded = decodeForm(operation, withFields(raw.bytes, raw.boundary, changes), raw.boundary);
  if (decoded instanceof GatewayError) throw decoded;
  return { ...decoded.request, ...(pieces && { pieces }), ...(piecesMax && { piecesMax }) };
}
