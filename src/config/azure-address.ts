/** Where and as whom a deployment in Azure is called: what it says itself, else what the environment does. */

import { Secret } from "../secret.ts";
import { readApiBase } from "./api-base.ts";
import type { AzureAccess, EntraIdentity } from "./cloud-access.ts";
import { type CloudAddress, tokenSource } from "./cloud-address.ts";
import type { ModelEntry } from "./schema-model.ts";

type Params = ModelEntry["litellm_params"];
type Lookup = (name: string) => string | undefined;

/** Every variable `lookup` may be asked for on Azure's behalf. */
export const azureVariables: readonly string[] =
  `AZURE_API_BASE AZURE_API_VERSION AZURE_AI_API_BASE AZURE_OPENAI_API_KEY AZURE_API_KEY AZURE_AI_API_KEY AZURE_AD_TOKEN
   AZURE_TENANT_ID AZURE_CLIENT_ID AZURE_CLIENT_SECRET AZURE_FEDERATED_TOKEN_FILE AZURE_AUTHORITY_HOST AZURE_SCOPE`.split(
    /\s+/,
  );

/** LiteLLM's. */
const defaultVersion = "2025-02-01-preview";
/** The first version that knows `max_completion_tokens`, without which reasoning models cannot be capped. */
const newCapVersion = "2024-09-01";

/** @param model the deployment's name in Azure, or the model's where models stand beside each other. */
export function findAzure(model: string, params: Params, lookup: Lookup, provider: string): CloudAddress {
  const isFoundry = provider === "azure_ai";
  const baseVariable = isFoundry ? "AZURE_AI_API_BASE" : "AZURE_API_BASE";
  const base = params.api_base ?? params.base_url ?? readApiBase(lookup(baseVariable));
  if (base === undefined) {
    return { key: "api_base", reason: `no address is known: write api_base, or set ${baseVariable}` };
  }
  const identity = identityOf(params, lookup);
  if (identity !== undefined && "reason" in identity) return identity;
  const names = isFoundry ? ["AZURE_AI_API_KEY"] : ["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"];
  const environmentKey = names.map(lookup).find((value) => value !== undefined);
  // Who writes an identity means it; a key goes before what only the environment says.
  const isMeant = params.azure_ad_token !== undefined || params.client_secret !== undefined;
  const keyText = params.api_key?.reveal() ?? (isMeant ? undefined : environmentKey);
  const apiKey = keyText === undefined ? undefined : new Secret(keyText);
  if (apiKey === undefined && identity === undefined) {
    return {
      key: "api_key",
      reason: `it has no credentials: write api_key or azure_ad_token, or set ${names.at(-1)}, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET`,
    };
  }
  const place = isFoundry ? foundryPlace(base, params.api_version) : openAiPlace(base, params.api_version, lookup);
  const { apiBase, outputCapField, ...where } = place;
  const access: AzureAccess = { cloud: "azure", ...where, identity: apiKey === undefined ? identity : undefined };
  return { model, apiBase, apiKey, access, outputCapField };
}

type Place = Pick<AzureAccess, "isInPath" | "apiVersion" | "keyHeader"> &
  Required<Pick<Extract<CloudAddress, { apiBase: string }>, "apiBase" | "outputCapField">>;

/** Azure OpenAI: a path for each deployment and a version, or the newer `/openai/v1` without either. */
function openAiPlace(base: string, version: string | undefined, lookup: Lookup): Place {
  const keyHeader = "api-key";
  if (base.endsWith("/openai/v1")) {
    const capField = "max_completion_tokens";
    return { apiBase: base, isInPath: false, apiVersion: undefined, keyHeader, outputCapField: capField };
  }
  const apiVersion = version ?? lookup("AZURE_API_VERSION") ?? defaultVersion;
  const isOld = /^\d{4}-/.test(apiVersion) && apiVersion < newCapVersion;
  const outputCapField = isOld ? "max_tokens" : "max_completion_tokens";
  // Some write the whole path; the deployment in it is the model's name.
  const apiBase = base.replace(/\/openai(\/deployments\/[^/]+)?$/, "");
  return { apiBase, isInPath: true, apiVersion, keyHeader, outputCapField };
}

/** Azure AI Foundry: all models of a resource at one address, or a server for one model. */
function foundryPlace(base: string, version: string | undefined): Place {
  const host = new URL(base).hostname;
  const isResource = host.endsWith(".services.ai.azure.com");
  const apiBase = isResource && !/\/(models|openai\/v1)$/.test(base) ? `${base}/models` : base;
  const apiVersion = version ?? (apiBase.endsWith("/models") ? "2024-05-01-preview" : undefined);
  const keyHeader = isResource || host.endsWith(".openai.azure.com") ? "api-key" : "authorization";
  return { apiBase, isInPath: false, apiVersion, keyHeader, outputCapField: "max_tokens" };
}

function identityOf(
  params: Params,
  lookup: Lookup,
): EntraIdentity | undefined | { readonly key: string; readonly reason: string } {
  const given = params.azure_ad_token ?? secretOf(lookup("AZURE_AD_TOKEN"));
  const isExchanged = given?.reveal().startsWith("oidc/") === true;
  if (given !== undefined && !isExchanged) return { kind: "token", token: given };
  const tenant = params.tenant_id ?? lookup("AZURE_TENANT_ID");
  const clientId = params.client_id ?? lookup("AZURE_CLIENT_ID");
  const proof = proofOf(params, isExchanged ? given : undefined, lookup);
  if (proof === undefined) return undefined;
  for (const [key, value] of [["tenant_id", tenant] as const, ["client_id", clientId] as const]) {
    if (value !== undefined) continue;
    return {
      key,
      reason: `an application's credentials are given without ${key}: write it, or set AZURE_${key.toUpperCase()}`,
    };
  }
  const authority = readApiBase(lookup("AZURE_AUTHORITY_HOST")) ?? "https://login.microsoftonline.com";
  return {
    kind: "application",
    clientId: clientId ?? "",
    proof,
    tokenUrl: `${authority}/${encodeURIComponent(tenant ?? "")}/oauth2/v2.0/token`,
    scope: params.azure_scope ?? lookup("AZURE_SCOPE") ?? "https://cognitiveservices.azure.com/.default",
  };
}

/** With what an application proves itself: its secret, or in a pod with a workload's identity the token that is mounted there. */
function proofOf(params: Params, exchanged: Secret | undefined, lookup: Lookup) {
  if (exchanged !== undefined) return { assertion: tokenSource(exchanged) };
  const secret = params.client_secret ?? secretOf(lookup("AZURE_CLIENT_SECRET"));
  if (secret !== undefined) return { secret };
  const file = lookup("AZURE_FEDERATED_TOKEN_FILE");
  return file === undefined ? undefined : { assertion: { file } };
}

function secretOf(text: string | undefined): Secret | undefined {
  return text === undefined ? undefined : new Secret(text);
}
