/** Anthropic's Messages: tools and the choice between them. */

import type { Json, JsonObject } from "../completion.ts";
import { marked } from "./anthropic-parts.ts";
import { unsupported } from "./chat-params.ts";
import type { ClaudeTraits } from "./claude-models.ts";
import { arrayOf, isObject, objectOf, textOf } from "./json.ts";
import { webSearchesFor } from "./request-body.ts";

/** @throws ProviderFailure for a kind of tool Claude does not know. */
export function toolsOf(body: JsonObject, traits: ClaudeTraits): JsonObject[] {
  const tools = arrayOf(body.tools).filter(isObject);
  const search = objectOf(body.web_search_options);
  return [
    ...tools.map((tool, index) => toolOf(tool, index, traits)),
    ...(search === undefined ? [] : [webSearch(search)]),
  ];
}

function toolOf(tool: JsonObject, index: number, traits: ClaudeTraits): JsonObject {
  const called = objectOf(tool.function);
  if (tool.type === "function" || tool.type === undefined) {
    const { name = "", description, parameters, strict } = called ?? {};
    return marked(
      marked(
        {
          name,
          ...(textOf(description) !== undefined && { description }),
          input_schema: { type: "object", properties: {}, ...objectOf(parameters) },
          ...(strict === true && traits.isStructured && { strict }),
        },
        tool,
      ),
      called ?? {},
    );
  }
  if (isObject(tool.custom)) {
    throw unsupported(`tools[${index}]`, "Claude's tools take JSON, not free text. Give the tool a JSON schema.");
  }
  // Anthropic's own tools, alone or in LiteLLM's wrapping.
  return called === undefined ? tool : { type: tool.type, name: called.name ?? "", ...objectOf(called.parameters) };
}

function webSearch(options: JsonObject): JsonObject {
  const place = objectOf(objectOf(options.user_location)?.approximate);
  return {
    type: "web_search_20250305",
    name: "web_search",
    max_uses: webSearchesFor(options),
    ...(place !== undefined && { user_location: { type: "approximate", ...place } }),
  };
}

/**
 * The choice between tools, in Anthropic's words.
 *
 * @throws ProviderFailure for one Claude cannot be given.
 */
export function toolChoiceOf(body: JsonObject): JsonObject | undefined {
  const choice = choiceOf(body.tool_choice);
  if (body.parallel_tool_calls !== false || choice?.type === "none") return choice;
  return { ...(choice ?? { type: "auto" }), disable_parallel_tool_use: true };
}

function choiceOf(choice: Json | undefined): JsonObject | undefined {
  if (choice === undefined || choice === null) return undefined;
  if (choice === "auto" || choice === "none") return { type: choice };
  if (choice === "required" || choice === "any") return { type: "any" };
  const name = textOf(objectOf(objectOf(choice)?.function)?.name);
  if (name !== undefined) return { type: "tool", name };
  throw unsupported("tool_choice", '`tool_choice` must be "auto", "none", "required", or the name of a function.');
}
