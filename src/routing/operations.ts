import type { Operation } from "../completion.ts";
import type { Exclusion, Filter } from "./candidate.ts";

/** LiteLLM's `model_info.mode` of models that do each. */
export const operationModes: Readonly<Record<Operation, string>> = {
  chat: "chat",
  embeddings: "embedding",
  text_completion: "completion",
  moderation: "moderation",
  rerank: "rerank",
  image_generation: "image_generation",
  speech: "audio_speech",
  transcription: "audio_transcription",
  translation: "audio_transcription",
};
/** Models that do nothing else. */
const single: ReadonlySet<string> = new Set([
  operationModes.embeddings,
  operationModes.moderation,
  operationModes.rerank,
  operationModes.image_generation,
  operationModes.speech,
  operationModes.transcription,
]);

const nothing: readonly Exclusion[] = [];

/** Passes over deployments that cannot do what is asked: those of another mode, and for all but chat those of another wire. */
export const operationFilter: Filter = (deployments, { request: { operation } }) => {
  let excluded: Exclusion[] | undefined;
  for (const deployment of deployments) {
    const { wire, mode } = deployment;
    const isOther = mode !== undefined && mode !== operationModes[operation] && single.has(mode);
    if (!isOther && (operation === "chat" || wire === "openai-chat")) continue;
    const detail = isOther ? `is a model for ${mode}` : `is behind a wire without ${operationModes[operation]}`;
    excluded ??= [];
    excluded.push({ deployment, reason: "unsupported", detail });
  }
  return excluded ?? nothing;
};
