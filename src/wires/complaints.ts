import type { ErrorCode } from "../errors.ts";

/** Phrases by which providers say that a conversation is too long (LiteLLM's list, extended by `code`). */
const contextPhrases =
  /maximum context length|string too long\. expected a string with maximum length|exceed(s)? (the )?context (limit|window|length)|model's maximum context limit|longer than the model's context length|input tokens exceed the configured limit|exceeds the maximum number of tokens allowed|prompt is too long|input is too long|too many input tokens|context_length_exceeded/i;
const contentPhrases =
  /content_policy_violation|content_filter|content management policy|content filtering policy|safety system|ResponsibleAIPolicyViolation/i;

/** What a provider's words say of a request it refused: too long, or not to be answered. Undefined: neither. */
export function phraseCode(text: string): ErrorCode | undefined {
  if (contextPhrases.test(text)) return "context_length_exceeded";
  return contentPhrases.test(text) ? "content_policy_violation" : undefined;
}
