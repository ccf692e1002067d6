/** Where OpenAI's operations are at a deployment, and what opens the door. */

import type { Deployment } from "../config/config.ts";
import type { Secret } from "../secret.ts";

/** By what each is for. A deployment has few, and to make one takes longer than to find it. */
const operationUrls = new WeakMap<Deployment, Map<string, URL>>();

/** @param path of the operation, "chat/completions" for instance. @returns not to be changed: others have the same. */
export function operationUrl(deployment: Deployment, path: string): Readonly<URL> {
  const known = operationUrls.get(deployment) ?? new Map<string, URL>();
  operationUrls.set(deployment, known);
  const url = known.get(path) ?? openAiUrl(deployment, path);
  known.set(path, url);
  return url;
}

/** @param path below the deployment's address. */
export function openAiUrl({ apiBase, access, model }: Deployment, path: string): URL {
  if (access?.cloud !== "azure") return new URL(`${apiBase}/${path}`);
  // Azure has the model of responses in the body.
  const ofModel = path.startsWith("responses") ? "" : `/deployments/${encodeURIComponent(model)}`;
  const folder = access.isInPath ? `/openai${ofModel}` : "";
  const url = new URL(`${apiBase}${folder}/${path}`);
  if (access.apiVersion !== undefined) url.searchParams.set("api-version", access.apiVersion);
  return url;
}

/** @param credential the deployment's key, or a token it was exchanged for. */
export function openAiHeaders(
  { apiKey, access, headers: own }: Deployment,
  credential: Secret | undefined,
): Record<string, string> {
  const headers: Record<string, string> = {};
  if (credential !== undefined) {
    const isOwnHeader = access?.cloud === "azure" && access.keyHeader === "api-key" && credential === apiKey;
    if (isOwnHeader) headers["api-key"] = credential.reveal();
    else headers.authorization = `Bearer ${credential.reveal()}`;
  }
  for (const name in own) headers[name.toLowerCase()] = own[name] ?? "";
  return headers;
}
