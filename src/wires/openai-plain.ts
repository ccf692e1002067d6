import type { Json, JsonObject } from "../completion.ts";
import { arrayOf, countOf, isObject, objectOf } from "./json.ts";

/** OpenAI's models that do not reason and refuse to be told how much to. */
const unreasoning = /(^|\/)(gpt-3|gpt-4|chatgpt-4)/;

/**
 * A neutral body without the words OpenAI's servers do not know, some of which refuse what they do not know: marks for
 * caches, other providers' blocks of reasoning. `thinking` becomes an effort.
 *
 * @param model in the provider's words.
 */
export function plainBody(body: JsonObject, model: string): JsonObject {
  const { thinking, reasoning_effort: given, ...plain } = body;
  const effort = given ?? effortOf(objectOf(thinking));
  // Who asked in Anthropic's words cannot know what this model refuses to be told.
  const isSpared = thinking !== undefined && unreasoning.test(model);
  return {
    ...plain,
    ...(effort !== undefined && !isSpared && { reasoning_effort: effort }),
    ...(Array.isArray(body.messages) && { messages: plainMessages(body.messages) }),
    ...(Array.isArray(body.tools) && { tools: body.tools.map(withoutMark) }),
  };
}

/** OpenAI's tools answer in text: what else they showed is shown by the user, after the last of them. */
function plainMessages(messages: readonly Json[]): Json[] {
  const plain: Json[] = [];
  let shown: Json[] = [];
  for (const message of messages) {
    const isResult = isObject(message) && message.role === "tool" && Array.isArray(message.content);
    if (!(isObject(message) && message.role === "tool") && shown.length > 0) {
      plain.push({ role: "user", content: shown });
      shown = [];
    }
    if (!isResult) {
      plain.push(plainMessage(message));
      continue;
    }
    const isText = (part: Json) => isObject(part) && part.type === "text";
    const parts = arrayOf(message.content);
    shown.push(...parts.filter((part) => !isText(part)).map(withoutMark));
    const texts = parts.filter(isText);
    plain.push(plainMessage({ ...message, content: texts.length > 0 ? texts : "(shown below)" }));
  }
  if (shown.length > 0) plain.push({ role: "user", content: shown });
  return plain;
}

function plainMessage(message: Json): Json {
  if (!isObject(message)) return message;
  const { thinking_blocks: _, cache_control: __, provider_specific_fields: ___, is_error: ____, ...plain } = message;
  return {
    ...plain,
    ...(Array.isArray(message.content) && { content: message.content.map(withoutMark) }),
    ...(Array.isArray(message.tool_calls) && { tool_calls: arrayOf(message.tool_calls).map(withoutMark) }),
  };
}

function withoutMark(item: Json): Json {
  if (!isObject(item) || (item.cache_control === undefined && item.provider_specific_fields === undefined)) return item;
  const { cache_control: _, provider_specific_fields: __, ...plain } = item;
  return plain;
}

/** How much effort a budget of tokens for thinking stands for; LiteLLM's steps. */
function effortOf(thinking: JsonObject | undefined): string | undefined {
  if (thinking?.type !== "enabled") return undefined;
  const budget = countOf(thinking.budget_tokens) ?? 0;
  return budget >= 10_000 ? "high" : budget >= 5_000 ? "medium" : "low";
}
