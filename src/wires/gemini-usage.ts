import type { Json, Usage } from "../completion.ts";
import { arrayOf, countOf, objectOf } from "./json.ts";

/**
 * Reads Google's `usageMetadata`. What was thought is no part of the candidates' tokens there, and what Google's own tools brought
 * no part of the prompt's; in our words they are parts of output and input.
 *
 * @returns undefined unless it is an object with a number of input tokens.
 */
export function readGeminiUsage(value: Json | undefined): Usage | undefined {
  const usage = objectOf(value);
  const prompt = countOf(usage?.promptTokenCount);
  if (usage === undefined || prompt === undefined) return undefined;
  const inputTokens = prompt + (countOf(usage.toolUsePromptTokenCount) ?? 0);
  const candidates = countOf(usage.candidatesTokenCount) ?? 0;
  const thoughts = countOf(usage.thoughtsTokenCount) ?? 0;
  // A few versions count the thoughts with the candidates; the total tells.
  const isInclusive = thoughts > 0 && thoughts <= candidates && usage.totalTokenCount === inputTokens + candidates;
  const outputTokens = isInclusive ? candidates : candidates + thoughts;
  const cacheRead = Math.min(countOf(usage.cachedContentTokenCount) ?? 0, inputTokens);
  const audioInput =
    modality(usage.promptTokensDetails, "AUDIO") +
    modality(usage.toolUsePromptTokensDetails, "AUDIO") -
    modality(usage.cacheTokensDetails, "AUDIO");
  const imageInput =
    modality(usage.promptTokensDetails, "IMAGE") +
    modality(usage.toolUsePromptTokensDetails, "IMAGE") -
    modality(usage.cacheTokensDetails, "IMAGE");
  const audioOutput = modality(usage.candidatesTokensDetails, "AUDIO");
  const imageOutput = modality(usage.candidatesTokensDetails, "IMAGE");
  const serviceTier = tiers[String(usage.trafficType)] ?? tiers[String(usage.serviceTier)];
  return {
    inputTokens,
    outputTokens,
    cacheReadInputTokens: cacheRead,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: thoughts,
    ...(audioInput > 0 && { audioInputTokens: audioInput }),
    ...(imageInput > 0 && { imageInputTokens: imageInput }),
    ...(audioOutput > 0 && { audioOutputTokens: audioOutput }),
    ...(imageOutput > 0 && { imageOutputTokens: imageOutput }),
    ...(serviceTier !== undefined && { serviceTier }),
    estimated: false,
  };
}

/** Vertex's words and the Gemini API's for what we call a service tier. */
const tiers: Readonly<Record<string, string>> = {
  ...{ ON_DEMAND: "default", ON_DEMAND_FLEX: "flex", ON_DEMAND_PRIORITY: "priority" },
  ...{ standard: "default", flex: "flex", priority: "priority" },
};

function modality(details: Json | undefined, name: string): number {
  let tokens = 0;
  for (const value of arrayOf(details)) {
    const detail = objectOf(value);
    if (detail?.modality === name) tokens += countOf(detail.tokenCount) ?? 0;
  }
  return tokens;
}
