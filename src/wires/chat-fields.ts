/** Which fields of the neutral form are OpenAI's or the gateway's. */

import type { Json, JsonObject } from "../completion.ts";
import { isGatewayField } from "./request-body.ts";

/** OpenAI's, with those that LiteLLM has beside them. */
const chatFields: ReadonlySet<string> = new Set(
  `model messages stream stream_options n max_tokens max_completion_tokens temperature top_p top_k stop seed logprobs
   top_logprobs logit_bias presence_penalty frequency_penalty response_format reasoning_effort thinking tools tool_choice
   parallel_tool_calls functions function_call modalities audio prediction verbosity web_search_options service_tier store
   metadata user safety_identifier prompt_cache_key prompt_cache_retention cache_control`.split(/\s+/),
);

/** The members of a body that mean nothing to OpenAI or to us: the provider's own words. */
export function strangeFields(body: JsonObject): { [key: string]: Json } {
  const own: { [key: string]: Json } = {};
  for (const [key, value] of Object.entries(body)) {
    if (!chatFields.has(key) && !isGatewayField(key)) own[key] = value;
  }
  return own;
}
