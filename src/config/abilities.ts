import type { Ability, Deployment } from "./config.ts";
import { flag } from "./fields.ts";

/** Whether a model can do a thing, as `model_info` says it. */
export const abilityFlags = {
  supports_function_calling: flag.optional(),
  supports_parallel_function_calling: flag.optional(),
  supports_tool_choice: flag.optional(),
  supports_response_schema: flag.optional(),
  supports_vision: flag.optional(),
  supports_audio_input: flag.optional(),
  supports_audio_output: flag.optional(),
  supports_pdf_input: flag.optional(),
  supports_web_search: flag.optional(),
  supports_reasoning: flag.optional(),
  supports_system_messages: flag.optional(),
} satisfies Record<`supports_${Ability}`, unknown>;

/** The part of `model_info` that says so. */
type ModelFacts = { readonly [Flag in `supports_${Ability}`]?: boolean | undefined } & {
  readonly supported_openai_params?: readonly string[] | undefined;
};

/** What is known of a model's abilities. What nobody says is taken to be there: the provider has the last word. */
export function abilitiesOf(info: ModelFacts = {}): Pick<Deployment, "lacks" | "takesOnly"> {
  const flags = Object.keys(abilityFlags) as `supports_${Ability}`[];
  const lacks = flags.filter((key) => info[key] === false).map((key) => key.replace("supports_", "") as Ability);
  return {
    ...(lacks.length > 0 && { lacks: new Set(lacks) }),
    ...(info.supported_openai_params !== undefined && { takesOnly: new Set(info.supported_openai_params) }),
  };
}
