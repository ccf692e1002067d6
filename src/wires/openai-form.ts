/** OpenAI's operations that are asked for with a form, in which a recording is: transcriptions and translations. */

import type { CompletionRequest, FormOperation, JsonObject, RawBody } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { textOf } from "./json.ts";
import { type FormPart, rewriteForm, scanForm } from "./multipart.ts";
import { measureRecording } from "./openai-media.ts";
import { readRepeatWishes } from "./repeat-wishes.ts";
import { commonFault, readTags } from "./request-body.ts";

const file = "file";
/** Given twice, we and the provider might read two different values. */
const governed = ["model", file, "stream", "response_format"];

/** A request, and the recording in it. */
export interface RecordingRequest {
  readonly request: CompletionRequest;
  readonly recording: Buffer;
}

/**
 * Reads a form. How much it may come to is reckoned from the recording's bytes; `withLength` knows better.
 *
 * @returns `invalid_request` (with `param`) if it is none. Messages of errors never quote it.
 */
export function decodeForm(operation: FormOperation, bytes: Buffer, boundary: string): RecordingRequest | GatewayError {
  const parts = scanForm(bytes, boundary);
  if (parts === undefined) {
    return new GatewayError("invalid_request", "The body is no whole form. Send multipart/form-data.");
  }
  const body = textsOf(bytes, parts);
  const fault = commonFault(body, governed, repeatedIn(parts), file);
  if (fault !== undefined) return fault;
  const recording = parts.find(({ name, isFile }) => name === file && isFile)?.content;
  if (recording === undefined) {
    return new GatewayError("invalid_request", "`file` must be a file.", { param: file });
  }
  const repeat = readRepeatWishes(body);
  if (repeat instanceof GatewayError) return repeat;
  const request: CompletionRequest = {
    operation,
    wire: undefined,
    raw: { bytes, value: body, spans: new Map(), boundary },
    model: String(body.model),
    stream: body.stream === true,
    includeUsage: false,
    outputTokensMax: 0,
    choiceCount: 1,
    inputTokensMax: 0,
    endUser: textOf(body.user),
    tags: readTags(body),
    ...(repeat !== undefined && { repeat }),
    chat: () => body,
  };
  const read = { request, recording: bytes.subarray(recording.start, recording.end) };
  return { ...read, request: withLength(read, undefined) };
}

/**
 * The request for a recording whose length is known.
 *
 * @param seconds by the recording's own word; undefined: it does not say.
 */
export function withLength({ request, recording }: RecordingRequest, seconds: number | undefined): CompletionRequest {
  const { outputTokensMax, outputCount, inputTokensMax, pieces, piecesMax } = measureRecording(
    recording.length,
    seconds,
  );
  const textBytes = (request.raw?.bytes.length ?? 0) - recording.length;
  // The texts beside the recording are read too.
  const bounds = { outputTokensMax, choiceCount: outputCount, inputTokensMax: inputTokensMax + textBytes };
  return { ...request, ...bounds, pieces, piecesMax };
}

/** The texts of a form as JSON would have them; of a file only that it is there. */
function textsOf(bytes: Buffer, parts: readonly FormPart[]): JsonObject {
  const body: JsonObject = Object.create(null) as JsonObject;
  for (const { name, isFile, content } of parts) {
    const text = isFile ? name : bytes.toString("utf8", content.start, content.end);
    body[name] = name === "stream" ? asFlag(text) : text;
  }
  return body;
}

/** Python's clients write "True". */
function asFlag(text: string): boolean | string {
  const word = text.toLowerCase();
  return word === "true" || word === "1" ? true : word === "false" || word === "0" ? false : text;
}

function repeatedIn(parts: readonly FormPart[]): ReadonlySet<string> {
  const names = new Set<string>();
  return new Set(parts.map(({ name }) => name).filter((name) => names.has(name) || !names.add(name)));
}

/**
 * Writes a form for a provider: everything stays byte for byte but the model and what speaks to the gateway.
 *
 * @param left names of fields that are left out.
 */
export function encodeForm(
  { bytes, value }: RawBody,
  boundary: string,
  model: string,
  left: readonly string[],
): { readonly body: Buffer; readonly mediaType: string } {
  const mediaType = `multipart/form-data; boundary="${boundary}"`;
  if (left.length === 0 && value.model === model) return { body: bytes, mediaType };
  return {
    body: withFields(bytes, boundary, new Map([["model", model], ...left.map((name) => [name, undefined] as const)])),
    mediaType,
  };
}

/** A form with other texts in some fields; undefined leaves one out. */
export function withFields(bytes: Buffer, boundary: string, changes: ReadonlyMap<string, string | undefined>): Buffer {
  const parts = scanForm(bytes, boundary);
  // What cannot be read is refused by who decodes it.
  return parts === undefined ? bytes : rewriteForm({ bytes, boundary, parts }, changes);
}
