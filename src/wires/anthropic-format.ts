/** How Claude is made to answer in JSON: by itself where model and schema allow it, else by a tool it is made to call. */

import type { Json, JsonObject } from "../completion.ts";
import type { ClaudeTraits } from "./claude-models.ts";
import { arrayOf, isObject, objectOf } from "./json.ts";

/** LiteLLM's name of the tool whose input is the answer. */
export const jsonToolName = "json_tool_call";

/** How an answer's format is brought about. */
export type FormatPlan =
  | { readonly by: "model"; readonly schema: JsonObject }
  | { readonly by: "tool"; readonly schema: JsonObject };

/** What Anthropic's grammar of schemas lacks. */
const foreignKeywords: ReadonlySet<string> = new Set(
  `minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength maxItems uniqueItems contains
   minProperties maxProperties patternProperties propertyNames prefixItems oneOf not if then else`.split(/\s+/),
);

/** @param format `response_format` as OpenAI has it. @returns undefined for plain text. */
export function planFormat(format: Json | undefined, traits: ClaudeTraits): FormatPlan | undefined {
  const given = objectOf(format);
  if (given?.type === "json_object") return { by: "tool", schema: { type: "object", additionalProperties: true } };
  if (given?.type !== "json_schema") return undefined;
  const schema = objectOf(objectOf(given.json_schema)?.schema) ?? { type: "object" };
  return { by: traits.isStructured && isNative(schema) ? "model" : "tool", schema };
}

/** Whether Anthropic takes a schema as it is: closed objects, no bounds on values, no recursion. */
function isNative(schema: Json): boolean {
  if (Array.isArray(schema)) return schema.every(isNative);
  if (!isObject(schema)) return true;
  if (schema.$ref === "#") return false;
  if (isObjectType(schema.type) && schema.additionalProperties !== false) return false;
  if (typeof schema.minItems === "number" && schema.minItems > 1) return false;
  return Object.entries(schema).every(([key, value]) => {
    if (foreignKeywords.has(key)) return false;
    // What stands under these is data or names, not keywords.
    if (key === "enum" || key === "const" || key === "default" || key === "examples" || key === "required") return true;
    if (key === "properties" || key === "$defs" || key === "definitions") {
      return Object.values(objectOf(value) ?? {}).every(isNative);
    }
    return isNative(value);
  });
}

function isObjectType(type: Json | undefined): boolean {
  return type === "object" || arrayOf(type).includes("object");
}
