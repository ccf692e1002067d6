/** CompletionService's messages about vectors, in the gateway's words and back. Pure. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AcceptedEvent, CompletionRequest, Json, JsonObject, SettledEvent } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type {
  EmbeddingSchema,
  EmbedRequest,
  EmbedResponseSchema,
} from "../gen/tollgate/completion/v1/completion_pb.ts";
import { arrayOf, countOf, objectOf, parseJson, textOf } from "../wires/json.ts";
import { decodeOperation } from "../wires/openai-operation.ts";
import { callOf, usageOf } from "./connect-answer.ts";

/**
 * The request in OpenAI's body.
 *
 * @throws GatewayError `invalid_request` for what the schema's own rules cannot say.
 */
export function embeddingRequest({
  model,
  texts,
  tokenLists,
  dimensions,
  user,
  tags,
  extra,
}: EmbedRequest): CompletionRequest {
  if (texts.length > 0 === tokenLists.length > 0) {
    throw new GatewayError("invalid_request", "Give either `texts` or `token_lists`.", { param: "texts" });
  }
  const typed: JsonObject = {
    model,
    input: texts.length > 0 ? texts : tokenLists.map(({ tokens }) => tokens),
    ...(dimensions !== undefined && { dimensions }),
    ...(user !== "" && { user }),
    ...(tags.length > 0 && { tags }),
  };
  const twice = Object.keys(extra ?? {}).find((key) => Object.hasOwn(typed, key));
  if (twice !== undefined) {
    const message = `\`${twice}\` is given twice, in a field of its own and in \`extra\`.`;
    throw new GatewayError("invalid_request", message, { param: `extra.${twice}` });
  }
  const decoded = decodeOperation("embeddings", Buffer.from(JSON.stringify({ ...typed, ...extra })));
  if (!(decoded instanceof GatewayError)) return decoded;
  throw new GatewayError("invalid_request", decoded.message, { param: `extra.${decoded.facts.param ?? ""}` });
}

/** @throws GatewayError `provider_error` if the answer has no vectors. */
export function embeddingResponse(
  accepted: AcceptedEvent | undefined,
  { raw, usage, cost }: SettledEvent,
): MessageInitShape<typeof EmbedResponseSchema> {
  const body = objectOf(parseJson(raw?.toString() ?? ""));
  const embeddings = arrayOf(body?.data).map(embeddingOf);
  return {
    model: textOf(body?.model) ?? "",
    embeddings: embeddings.sort((a, b) => a.index - b.index),
    usage: usageOf(usage),
    call: callOf(accepted, cost),
  };
}

function embeddingOf(value: Json, position: number): MessageInitShape<typeof EmbeddingSchema> & { index: number } {
  const item = objectOf(value);
  const values = vectorOf(item?.embedding);
  if (values === undefined)
    throw new GatewayError("provider_error", "The provider answered something that is no vector.");
  return { index: countOf(item?.index) ?? position, values };
}

/** Numbers, or what they are in memory, in base64. */
function vectorOf(embedding: Json | undefined): number[] | undefined {
  if (Array.isArray(embedding)) {
    return embedding.every((number) => typeof number === "number") ? (embedding as number[]) : undefined;
  }
  if (typeof embedding !== "string") return undefined;
  const bytes = Buffer.from(embedding, "base64");
  return Array.from({ length: Math.floor(bytes.length / 4) }, (_, index) => bytes.readFloatLE(index * 4));
}
