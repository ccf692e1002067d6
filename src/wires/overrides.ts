import type { CompletionRequest, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { decodeChatRequest } from "./openai-chat.ts";
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
