import type { AzureAccess } from "./cloud-access.ts";
import type { Deployment } from "./config.ts";
import type { ProviderRow } from "./provider-rows.ts";
import type { ModelEntry } from "./schema-model.ts";

/** The first of Azure's versions that has responses. */
const azureVersion = "2025-03-01";

/** LiteLLM's mark, in front of its name, of a model that is asked by nothing else. */
const mark = "responses/";

/**
 * Whether a deployment takes OpenAI's responses, besides chat or alone: as its operator says in LiteLLM's words, else as its provider
 * does.
 *
 * @returns nothing where it does not; `model` only where it had a mark.
 */
export function responsesSupport(
  entry: ModelEntry,
  row: Pick<ProviderRow, "wire" | "speaksResponses">,
  address: { readonly model: string; readonly apiBase?: string | undefined; readonly access?: Deployment["access"] },
): Partial<Pick<Deployment, "speaksResponses" | "lacksChat" | "model">> {
  if (row.wire !== "openai-chat" || entry.litellm_params.use_chat_completions_api === true) return {};
  const isSaid = entry.model_info?.supported_endpoints?.includes("/v1/responses") === true;
  const { access, apiBase, model } = address;
  const isMarked = model.startsWith(mark);
  if (isMarked || entry.model_info?.mode === "responses") {
    return { speaksResponses: true, lacksChat: true, ...(isMarked && { model: model.slice(mark.length) }) };
  }
  const isThere = access?.cloud === "azure" ? isInAzure(access, apiBase) : row.speaksResponses;
  return isSaid || isThere ? { speaksResponses: true } : {};
}

function isInAzure({ isInPath, apiVersion = "" }: AzureAccess, apiBase = ""): boolean {
  return isInPath ? apiVersion >= azureVersion : apiBase.endsWith("/openai/v1");
}
