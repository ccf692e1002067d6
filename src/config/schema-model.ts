/** The schema of one entry of LiteLLM's `model_list`. */

import { z } from "zod";
import { abilityFlags } from "./abilities.ts";
import { failurePolicy } from "./failure-policy.ts";
import {
  apiBase,
  choice,
  dollars,
  duration,
  flag,
  headers,
  list,
  mockResponse,
  number,
  pause,
  providerModel,
  seconds,
  secret,
  secretDocument,
  section,
  text,
  whole,
} from "./fields.ts";
import { priceKeys } from "./price-keys.ts";

const organization = z.union([list(text), text], { error: "a text, or a list of texts for one deployment each" });

const mockUsage = section({ prompt_tokens: whole(0, 12), completion_tokens: whole(0, 34) });

/** How a deployment is called. */
export const litellmParams = section({
  model: providerModel,
  custom_llm_provider: text.optional(),
  litellm_credential_name: text.optional(),
  api_key: secret.optional(),
  api_base: apiBase.optional(),
  base_url: apiBase.optional(),
  organization: organization.optional(),
  extra_headers: headers.optional(),
  headers: headers.optional(),
  timeout: seconds.optional(),
  ttft_timeout: seconds.optional(),
  stream_idle_timeout: seconds.optional(),
  stream_timeout: seconds.optional(),
  rpm: whole(0, 100).optional(),
  tpm: whole(0, 100_000).optional(),
  weight: number(0, 1).optional(),
  order: whole(0, 1).optional(),
  max_tokens: whole(1, 4096).optional(),
  mock_response: mockResponse.optional(),
  mock_delay: pause.optional(),
  mock_chunk_delay: pause.optional(),
  mock_usage: mockUsage.optional(),
  api_version: text.optional(),
  region_name: text.optional(),
  max_parallel_requests: whole(1, 10).optional(),
  cooldown_time: pause.optional(),
  allowed_fails: whole(0, 3).optional(),
  allowed_fails_policy: failurePolicy("AllowedFails").optional(),
  num_retries: whole(0, 2).optional(),
  max_retries: whole(0, 0).optional(),
  tags: list(text).optional(),
  max_budget: dollars.optional(),
  budget_duration: duration.optional(),
  drop_params: flag.optional(),
  additional_drop_params: list(text).optional(),
  allowed_openai_params: list(text).optional(),
  modify_params: flag.optional(),
  use_chat_completions_api: flag.optional(),
  aws_access_key_id: secret.optional(),
  aws_secret_access_key: secret.optional(),
  aws_session_token: secret.optional(),
  aws_region_name: text.optional(),
  aws_profile_name: text.optional(),
  aws_role_name: text.optional(),
  aws_session_name: text.optional(),
  aws_web_identity_token: secret.optional(),
  aws_external_id: text.optional(),
  aws_bedrock_runtime_endpoint: apiBase.optional(),
  azure_ad_token: secret.optional(),
  azure_scope: text.optional(),
  tenant_id: text.optional(),
  client_id: text.optional(),
  client_secret: secret.optional(),
  vertex_project: text.optional(),
  vertex_location: text.optional(),
  vertex_credentials: secretDocument.optional(),
  vertex_ai_project: text.optional(),
  vertex_ai_location: text.optional(),
  vertex_ai_credentials: secretDocument.optional(),
});

/** What is known of a deployment. */
export const modelInfo = section({
  id: text.optional(),
  order: whole(0, 1).optional(),
  base_model: text.optional(),
  rpm: whole(0, 100).optional(),
  tpm: whole(0, 100_000).optional(),
  max_tokens: whole(1, 4096).optional(),
  max_output_tokens: whole(1, 4096).optional(),
  supported_environments: list(choice(["development", "staging", "production"])).optional(),
  max_input_tokens: whole(1, 128_000).optional(),
  mode: text.optional(),
  access_groups: list(text).optional(),
  allowed_fails: whole(0, 3).optional(),
  allowed_fails_policy: failurePolicy("AllowedFails").optional(),
  cooldown_time: pause.optional(),
  supported_openai_params: list(text).optional(),
  supported_endpoints: list(text).optional(),
  disable_background_health_check: flag.optional(),
  health_check_model: text.optional(),
  health_check_timeout: seconds.optional(),
  ...abilityFlags,
});

/** One deployment. */
export const modelEntry = section({
  model_name: text,
  litellm_params: litellmParams.and(priceKeys),
  model_info: modelInfo.and(priceKeys).optional(),
  rpm: whole(0, 100).optional(),
  tpm: whole(0, 100_000).optional(),
});

export type ModelEntry = z.output<typeof modelEntry>;
