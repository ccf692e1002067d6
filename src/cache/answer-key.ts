import { hash } from "node:crypto";
import type { CompletionRequest, JsonObject } from "../completion.ts";

/**
 * Members of a body that do not change what a model answers: who asks, how the answer is sent, and what speaks to the gateway. The
 * model is not compared as it is spelled. Whatever is not known here counts.
 */
const indifferent =
  /^(model|stream|stream_options|user|metadata|tags|cache|caching|fallbacks|context_window_fallbacks|content_policy_fallbacks|disable_fallbacks|num_retries|max_retries|timeout|request_timeout|stream_timeout|priority|no-log|litellm_.*)$/;

/** What an answer depends on. */
export interface AnswerOrigin {
  readonly request: Pick<CompletionRequest, "operation" | "wire" | "wireHeaders" | "raw" | "chat">;
  /** The group the model's name leads to, and the name: behind a `*` they differ. */
  readonly modelGroup: string;
  readonly model: string;
  /** The output cap the gateway has chosen; undefined: the caller's, if any, is in the request. */
  readonly outputTokensMax: number | undefined;
  /** Whom it is kept for; "" for all. */
  readonly audience: string;
  readonly namespace: string;
}

/**
 * The name an answer is kept under: the same for requests that differ in nothing that an answer depends on. Of objects inside a
 * member the order counts, since the order of a schema's properties is the order a model writes them in.
 */
export function answerKey({ request, ...origin }: AnswerOrigin): string {
  const { modelGroup, model, outputTokensMax, audience, namespace } = origin;
  const { operation, wire = "", wireHeaders = {}, raw } = request;
  const facts = [operation, wire, wireHeaders, modelGroup, model, outputTokensMax ?? null, audience];
  // The neutral form may say less than what its caller wrote.
  const digest = hash("sha256", `${JSON.stringify(facts)}\n${canonical(raw?.value ?? request.chat())}`);
  return namespace === "" ? digest : `${namespace}:${digest}`;
}

function canonical(body: JsonObject): string {
  let text = "";
  for (const name of Object.keys(body).sort()) {
    if (!indifferent.test(name)) text += `${JSON.stringify(name)}:${JSON.stringify(body[name])}\n`;
  }
  return text;
}
