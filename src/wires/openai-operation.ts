/** OpenAI's operations besides chat: bodies that pass as they came, and what is read of them for the bill. */

import type { CompletionRequest, Json, JsonObject, PlainOperation, Usage } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, countOf, isObject, objectOf, parseJson, textOf } from "./json.ts";
import { rewriteMembers, scanObject } from "./json-spans.ts";
import { hasError } from "./openai-chat-answer.ts";
import { inBandError } from "./openai-error.ts";
import { readUsage } from "./openai-usage.ts";
import { readRepeatWishes } from "./repeat-wishes.ts";
import { commonFault, countFault, isGatewayField, numberOf, parseBody, readTags } from "./request-body.ts";

/** What is particular to an operation. */
interface Form {
  /** Behind the address of a provider. */
  readonly path: string;
  /** The member without which nothing is asked. */
  readonly content: string;
  /** The model where a request names none. */
  readonly model?: string;
  /** Whether it has an output that is counted in tokens. */
  readonly isGenerating: boolean;
}

const forms: Readonly<Record<PlainOperation, Form>> = {
  embeddings: { path: "embeddings", content: "input", isGenerating: false },
  text_completion: { path: "completions", content: "prompt", isGenerating: true },
  // OpenAI's own choice.
  moderation: { path: "moderations", content: "input", model: "omni-moderation-latest", isGenerating: false },
  rerank: { path: "rerank", content: "query", isGenerating: false },
};

/** Where it is asked for, behind the address of a provider. */
export function operationPath(operation: PlainOperation): string {
  return forms[operation].path;
}

/** How many choices, and prompts in one request. */
const countMax = 2_048;

/**
 * Reads the body of a request.
 *
 * @returns `invalid_json` or `invalid_request` (with `param`) if it is none. Messages of errors never quote the body.
 */
export function decodeOperation(operation: PlainOperation, bytes: Buffer): CompletionRequest | GatewayError {
  const form = forms[operation];
  const body = parseBody(bytes);
  if (body instanceof GatewayError) return body;
  const { spans, repeated } = scanObject(bytes);
  const named = form.model === undefined ? body : { ...body, model: body.model ?? form.model };
  const governed = ["model", form.content, "stream", "stream_options", "n", "best_of", "max_tokens"];
  const fault = commonFault(named, governed, repeated, form.content) ?? generationFault(form, body);
  if (fault !== undefined) return fault;
  const repeat = readRepeatWishes(body);
  if (repeat instanceof GatewayError) return repeat;
  const stream = form.isGenerating && body.stream === true;
  return {
    operation,
    wire: undefined,
    raw: { bytes, value: body, spans },
    model: String(named.model),
    stream,
    includeUsage: stream && objectOf(body.stream_options)?.include_usage === true,
    outputTokensMax: form.isGenerating ? numberOf(body.max_tokens) : 0,
    choiceCount: form.isGenerating ? choicesOf(body) : 1,
    // Numbers that stand for tokens have a comma each.
    inputTokensMax: bytes.length,
    endUser: textOf(body.user),
    tags: readTags(body),
    ...(repeat !== undefined && { repeat }),
    chat: () => body,
  };
}

function generationFault(form: Form, body: JsonObject): GatewayError | undefined {
  if (!form.isGenerating) return undefined;
  return (
    countFault(body, "n", countMax) ??
    countFault(body, "best_of", countMax) ??
    countFault(body, "max_tokens", Number.MAX_SAFE_INTEGER)
  );
}

/** Of each prompt so many are made; `best_of` are paid for and the best `n` told. */
function choicesOf(body: JsonObject): number {
  const prompts = arrayOf(body.prompt);
  const promptCount = typeof prompts[0] === "number" ? 1 : Math.max(1, prompts.length);
  return promptCount * Math.max(numberOf(body.n) ?? 1, numberOf(body.best_of) ?? 1);
}

/**
 * Writes the body for a provider: everything stays byte for byte but the model, the cap, and what speaks to the gateway.
 *
 * @param target.outputTokensMax the cap to send where the caller gave none.
 */
export function encodeOperation(
  { raw, chat, stream, outputTokensMax }: CompletionRequest,
  target: { readonly model: string; readonly outputTokensMax: number | undefined },
): Buffer {
  const body = chat();
  const changes = new Map<string, string | undefined>([["model", JSON.stringify(target.model)]]);
  for (const key of Object.keys(body)) if (isGatewayField(key)) changes.set(key, undefined);
  if (outputTokensMax === undefined && target.outputTokensMax !== undefined) {
    changes.set("max_tokens", String(target.outputTokensMax));
  }
  if (stream && objectOf(body.stream_options)?.include_usage !== true) {
    changes.set("stream_options", JSON.stringify({ ...objectOf(body.stream_options), include_usage: true }));
  }
  const bytes = raw?.bytes ?? Buffer.from(JSON.stringify(body));
  return rewriteMembers(raw ?? { bytes, spans: scanObject(bytes).spans }, changes);
}

/** A whole answer, read. */
export interface OperationAnswer {
  /** What the provider reported; undefined if it reported nothing. */
  readonly usage: Usage | undefined;
  readonly responseId: string | undefined;
  /** Roughly the tokens in it. */
  readonly outputTokens: number;
}

/** @returns a GatewayError if it is no answer (`provider_error`), or there is an `error` in it. */
export function readOperationAnswer(operation: PlainOperation, bytes: Buffer): OperationAnswer | GatewayError {
  const body = parseJson(bytes.toString());
  if (!isObject(body)) {
    return new GatewayError("provider_error", "The provider answered something that is not a JSON object.");
  }
  if (hasError(body)) return inBandError(body);
  const texts = arrayOf(body.choices).map((choice) => textOf(objectOf(choice)?.text) ?? "");
  return {
    usage: readUsage(usageIn(body)),
    responseId: textOf(body.id),
    outputTokens: operation === "text_completion" ? Math.ceil(Buffer.byteLength(texts.join("")) / 4) : 0,
  };
}

/** Rerankers name one total, or put what they bill elsewhere. */
function usageIn(body: JsonObject): Json | undefined {
  const usage = objectOf(body.usage);
  if (usage !== undefined)
    return { ...usage, prompt_tokens: countOf(usage.prompt_tokens) ?? usage.total_tokens ?? null };
  const meta = objectOf(body.meta);
  const tokens = objectOf(meta?.billed_units)?.input_tokens ?? objectOf(meta?.tokens)?.input_tokens;
  return tokens === undefined ? undefined : { prompt_tokens: tokens };
}
