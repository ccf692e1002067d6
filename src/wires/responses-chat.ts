/** OpenAI's responses: a caller's body in the neutral form, for providers that speak another wire. */

import type { Json, JsonObject, Unsayable } from "../completion.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";
import { readItems } from "./responses-items.ts";

/**
 * Members that have another name or form, and hints to OpenAI's servers that change no answer. What only hosted tools would tell
 * (`include`) does not come without them.
 */
const translated: ReadonlySet<string> = new Set(
  `input instructions tools tool_choice parallel_tool_calls text reasoning max_output_tokens include store previous_response_id stream_options
   truncation background conversation prompt max_tool_calls top_logprobs prompt_cache_key prompt_cache_retention
   safety_identifier`.split(/\s+/),
);

/** Values of members without a translation that ask for nothing. */
const idle: Readonly<Record<string, readonly Json[]>> = {
  store: [false],
  truncation: ["disabled"],
  prompt: [],
  max_tool_calls: [],
};

/** A body in the neutral form, and what is missing there. */
export interface ResponseChat {
  readonly chat: JsonObject;
  readonly unsayable: readonly Unsayable[];
}

/** @param body any object: whatever it holds is looked at with care. */
export function chatOf(body: JsonObject): ResponseChat {
  const kept = Object.entries(body).filter(([key, value]) => !translated.has(key) && value !== null);
  const { messages, unsayable: unsaid } = readItems(body);
  const tools = toolFields(body);
  const isGiven = (name: string) => body[name] !== undefined && body[name] !== null;
  const unsayable = [
    ...unsaid.map((param) => ({ param, isContent: true })),
    ...Object.keys(idle)
      .filter((name) => isGiven(name) && !idle[name]?.includes(body[name] ?? null))
      .map((param) => ({ param, isContent: param === "prompt" })),
    ...tools.unsayable.map((param) => ({ param, isContent: false })),
  ];
  const cap = body.max_output_tokens;
  const chat = {
    ...Object.fromEntries(kept),
    messages: [...messages],
    ...tools.fields,
    ...textFields(objectOf(body.text)),
    ...reasoningFields(objectOf(body.reasoning)),
    ...(typeof cap === "number" && { max_completion_tokens: cap }),
    ...logprobFields(body),
  };
  return { chat, unsayable };
}

function toolFields(body: JsonObject): { fields: JsonObject; unsayable: readonly string[] } {
  const unsayable: string[] = [];
  const tools: JsonObject[] = [];
  let search: JsonObject | undefined;
  for (const [index, tool] of arrayOf(body.tools).entries()) {
    const type = isObject(tool) ? textOf(tool.type) : undefined;
    if (isObject(tool) && type === "function") tools.push(functionTool(tool));
    else if (isObject(tool) && type?.startsWith("web_search")) search = searchOptions(tool);
    else unsayable.push(`tools[${index}]`);
  }
  const choice = choiceOf(body.tool_choice);
  if (choice === undefined) unsayable.push("tool_choice");
  const kept = choice?.only === undefined ? tools : tools.filter((tool) => choice.only?.has(nameOf(tool)));
  const hasTools = kept.length > 0;
  const isParallel = body.parallel_tool_calls ?? undefined;
  return {
    fields: {
      ...(hasTools && { tools: kept }),
      ...(search !== undefined && { web_search_options: search }),
      ...(hasTools && choice?.choice !== undefined && { tool_choice: choice.choice }),
      // Told where there is nothing to call it is refused by some.
      ...(hasTools && isParallel !== undefined && { parallel_tool_calls: isParallel }),
    },
    unsayable,
  };
}

function functionTool({ name = "", description, parameters, strict, cache_control: mark }: JsonObject): JsonObject {
  return {
    type: "function",
    function: {
      name,
      ...(textOf(description) !== undefined && { description }),
      parameters: objectOf(parameters) ?? { type: "object", properties: {} },
      ...(typeof strict === "boolean" && { strict }),
    },
    ...(isObject(mark) && { cache_control: mark }),
  };
}

function nameOf(tool: JsonObject): string | undefined {
  return textOf(objectOf(tool.function)?.name);
}

function searchOptions({ search_context_size: size, user_location: place }: JsonObject): JsonObject {
  const { type: _, ...approximate } = objectOf(place) ?? {};
  return {
    ...(textOf(size) !== undefined && { search_context_size: size }),
    ...(isObject(place) && { user_location: { type: "approximate", approximate } }),
  };
}

/** @returns undefined for a choice only OpenAI's own tools can be meant by; `only`: the functions it leaves. */
function choiceOf(given: Json | undefined): { choice?: Json; only?: ReadonlySet<string | undefined> } | undefined {
  if (given === undefined || given === null) return {};
  if (typeof given === "string") return { choice: given };
  if (!isObject(given)) return undefined;
  if (given.type === "function") return { choice: { type: "function", function: { name: given.name ?? "" } } };
  if (given.type !== "allowed_tools") return undefined;
  const only = new Set(arrayOf(given.tools).map((tool) => textOf(objectOf(tool)?.name)));
  return { choice: textOf(given.mode) ?? "auto", only };
}

function textFields(text: JsonObject | undefined): JsonObject {
  const format = objectOf(text?.format);
  const verbosity = textOf(text?.verbosity);
  const { type, ...schema } = format ?? {};
  return {
    ...(type === "json_object" && { response_format: { type } }),
    ...(type === "json_schema" && { response_format: { type, json_schema: schema } }),
    ...(verbosity !== undefined && { verbosity }),
  };
}

function reasoningFields(reasoning: JsonObject | undefined): JsonObject {
  const effort = textOf(reasoning?.effort);
  return effort === undefined ? {} : { reasoning_effort: effort };
}

function logprobFields(body: JsonObject): JsonObject {
  const most = typeof body.top_logprobs === "number" && body.top_logprobs > 0 ? body.top_logprobs : undefined;
  const isWanted = most !== undefined || arrayOf(body.include).includes("message.output_text.logprobs");
  return isWanted ? { logprobs: true, ...(most !== undefined && { top_logprobs: most }) } : {};
}
