import type { DeltaEvent } from "../completion.ts";

/** Of ordinary text, one token of output has about this many bytes. */
const bytesPerToken = 4;

/** About how many tokens of output a piece of an answer holds, in case the provider never says. */
export function roughTokens(delta: DeltaEvent): number {
  let bytes = sizeOf(delta.text) + sizeOf(delta.reasoning) + sizeOf(delta.refusal);
  for (const call of delta.toolCalls ?? []) bytes += sizeOf(call.name) + sizeOf(call.arguments);
  return Math.ceil(bytes / bytesPerToken);
}

function sizeOf(text: string | undefined): number {
  return text === undefined ? 0 : Buffer.byteLength(text);
}
