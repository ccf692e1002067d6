import type { JsonObject } from "../completion.ts";
import type { Ability } from "../config/config.ts";
import { arrayOf, objectOf } from "../wires/json.ts";
import type { Check } from "./candidate.ts";

/** What a call needs of a model: in words, and whether a body asks for it. */
const needs: Readonly<Record<Ability, { readonly words: string; readonly isAsked: (body: JsonObject) => boolean }>> = {
  function_calling: { words: "tools", isAsked: (body) => hasAny(body.tools) || hasAny(body.functions) },
  parallel_function_calling: { words: "parallel tool calls", isAsked: (body) => body.parallel_tool_calls === true },
  tool_choice: { words: "tool_choice", isAsked: (body) => isGiven(body.tool_choice) },
  response_schema: {
    words: "response_format json_schema",
    isAsked: (body) => objectOf(body.response_format)?.type === "json_schema",
  },
  vision: { words: "images", isAsked: (body) => hasPart(body, "image_url") },
  audio_input: { words: "audio", isAsked: (body) => hasPart(body, "input_audio") },
  audio_output: { words: "answers in audio", isAsked: (body) => arrayOf(body.modalities).includes("audio") },
  pdf_input: { words: "files", isAsked: (body) => hasPart(body, "file") },
  web_search: { words: "web search", isAsked: (body) => isGiven(body.web_search_options) },
  reasoning: {
    words: "reasoning_effort",
    isAsked: (body) => isGiven(body.thinking) || (isGiven(body.reasoning_effort) && body.reasoning_effort !== "none"),
  },
  system_messages: {
    words: "system messages",
    isAsked: (body) =>
      arrayOf(body.messages).some((message) => ["system", "developer"].includes(String(objectOf(message)?.role))),
  },
};

/** Parameters that change the answer, and that a deployment may not know. Output caps are not among them: each has its name for them. */
const optionalParams = [
  "audio",
  "frequency_penalty",
  "function_call",
  "functions",
  "logit_bias",
  "logprobs",
  "modalities",
  "n",
  "parallel_tool_calls",
  "prediction",
  "presence_penalty",
  "reasoning_effort",
  "response_format",
  "seed",
  "service_tier",
  "stop",
  "temperature",
  "thinking",
  "tool_choice",
  "tools",
  "top_k",
  "top_logprobs",
  "top_p",
  "verbosity",
  "web_search_options",
];

/** Passes over deployments whose model is known not to do what the call needs, or not to take one of its parameters. */
export const abilityCheck: Check = (deployment, { request }) => {
  const { lacks, takesOnly } = deployment;
  if (lacks === undefined && takesOnly === undefined) return undefined;
  const body = request.chat();
  for (const ability of lacks ?? []) {
    const { words, isAsked } = needs[ability];
    if (!isAsked(body)) continue;
    return { deployment, reason: "unsupported", detail: `does not take ${words} (supports_${ability}: false)` };
  }
  const param = takesOnly && optionalParams.find((name) => isGiven(body[name]) && !takesOnly.has(name));
  if (param === undefined) return undefined;
  return { deployment, reason: "unsupported", detail: `does not take ${param} (supported_openai_params)` };
};

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function hasAny(value: JsonObject[string] | undefined): boolean {
  return arrayOf(value).length > 0;
}

function hasPart(body: JsonObject, type: string): boolean {
  return arrayOf(body.messages).some((message) =>
    arrayOf(objectOf(message)?.content).some((part) => objectOf(part)?.type === type),
  );
}
