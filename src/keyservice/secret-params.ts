/** Which parameters of a model may be secret, and what is shown of those. */

import type { Json, JsonObject } from "../completion.ts";
import { isPriceKey } from "../config/price-keys.ts";
import { referenceOf } from "../config/references.ts";
import { invalid } from "./key-fields.ts";

/** Whatever is not known to be harmless is taken for a secret. */
const harmless: ReadonlySet<string> = new Set(
  `model custom_llm_provider litellm_credential_name api_base base_url api_version organization region_name timeout
   stream_timeout ttft_timeout stream_idle_timeout keepalive_seconds rpm tpm weight order max_tokens max_completion_tokens
   mock_response mock_delay mock_chunk_delay mock_usage mock_timeout max_parallel_requests cooldown_time num_retries max_retries
   allowed_fails allowed_fails_policy tags max_budget budget_duration drop_params additional_drop_params allowed_openai_params modify_params
   configurable_clientside_auth_params silent_model use_in_pass_through use_litellm_proxy max_file_size_mb
   merge_reasoning_content_in_choices allow_client_keepalive_override temperature top_p top_k n stop seed logprobs top_logprobs
   presence_penalty frequency_penalty logit_bias response_format reasoning_effort thinking tool_choice parallel_tool_calls
   dimensions encoding_format input_type num_ctx ssl_verify
   aws_region_name aws_profile_name aws_role_name aws_session_name aws_external_id
   aws_bedrock_runtime_endpoint vertex_project vertex_location vertex_ai_project vertex_ai_location watsonx_project azure_deployment
   azure_scope tenant_id client_id`.split(/\s+/),
);
const mask = "****";
const shownChars = 4;
/** Of shorter secrets nothing is shown. */
const shownFromChars = 20;

/** Parameters by what may be seen. */
interface SplitParams {
  readonly open: JsonObject;
  readonly secret: JsonObject;
}

/** Parts parameters. A reference to a pod's environment is no secret, nor are numbers and flags. */
export function splitParams(params: JsonObject): SplitParams {
  const entries = Object.entries(params);
  const isOpen = ([key, value]: [string, Json]) =>
    harmless.has(key) ||
    isPriceKey(key) ||
    referenceOf(value) !== undefined ||
    (typeof value !== "string" && typeof value !== "object");
  return {
    open: Object.fromEntries(entries.filter(isOpen)),
    secret: Object.fromEntries(entries.filter((entry) => !isOpen(entry))),
  };
}

/** What is shown of a secret: at most its last four characters. */
function masked(value: Json): Json {
  if (Array.isArray(value)) return value.map(masked);
  if (typeof value === "object" && value !== null) return maskedAll(value);
  if (typeof value !== "string") return value === null ? null : mask;
  if (referenceOf(value) !== undefined) return value;
  return value.length < shownFromChars ? mask : mask + value.slice(-shownChars);
}

/** Parameters as they are shown. */
export function maskedParams(params: JsonObject): JsonObject {
  const { open, secret } = splitParams(params);
  return { ...open, ...maskedAll(secret) };
}

/**
 * What somebody means who sends back what was shown to them: where the mask stands, the secret stays.
 *
 * @param path of the value, for the message.
 * @throws GatewayError `invalid_request` for a mask with no secret behind it.
 */
export function unmasked(sent: Json, current: Json | undefined, path: string): Json {
  if (typeof sent === "string" && sent.startsWith(mask)) {
    if (current !== undefined && masked(current) === sent) return current;
    throw invalid(path, "is what is shown in a secret's place. Send the secret, or leave it out.");
  }
  if (Array.isArray(sent)) {
    return sent.map((item, index) =>
      unmasked(item, Array.isArray(current) ? current[index] : undefined, `${path}[${index}]`),
    );
  }
  if (typeof sent !== "object" || sent === null) return sent;
  const isMap = typeof current === "object" && current !== null && !Array.isArray(current);
  return Object.fromEntries(
    Object.entries(sent).map(([key, item]) => [
      key,
      unmasked(item, isMap && Object.hasOwn(current, key) ? current[key] : undefined, `${path}.${key}`),
    ]),
  );
}

/** Some keys of a map set, those sent as null taken away. */
export function merged(current: JsonObject, sent: JsonObject): JsonObject {
  const all = Object.entries({ ...current, ...sent });
  return Object.fromEntries(all.filter(([, value]) => value !== null));
}

function maskedAll(values: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, masked(value)]));
}
