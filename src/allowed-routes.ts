/** What LiteLLM's `allowed_routes` mean: groups of routes, paths, and paths with `*`. */

import { GatewayError } from "./errors.ts";
import { matchWildcard } from "./wildcard.ts";

/** Something a caller may do, at whichever door. */
export interface Operation {
  /** The groups it is in. */
  readonly groups: readonly string[];
  /** LiteLLM's paths for it. */
  readonly paths: readonly string[];
}

const llm = ["llm_api_routes", "openai_routes"];
export const completing: Operation = { groups: llm, paths: ["/v1/chat/completions", "/chat/completions"] };
/** By Anthropic's wire; whoever may complete by OpenAI's may by this. */
export const messaging: Operation = {
  groups: [...llm, "anthropic_routes"],
  paths: ["/v1/messages", "/anthropic/v1/messages"],
};
/** By OpenAI's responses. */
export const responding: Operation = { groups: llm, paths: ["/v1/responses", "/responses", "/openai/v1/responses"] };
/** Coming back to responses that are kept; whoever may make them may. */
export const returning: Operation = {
  groups: llm,
  paths: ["/v1/responses/{response_id}", "/responses/{response_id}", ...responding.paths],
};
const embedMethod = "/tollgate.completion.v1.CompletionService/Embed";
const embedding: Operation = { groups: llm, paths: ["/v1/embeddings", "/embeddings", embedMethod] };
const others = [
  ...["completions", "moderations", "rerank", "images/generations"],
  ...["audio/speech", "audio/transcriptions", "audio/translations"],
].map((name): Operation => ({ groups: llm, paths: [`/v1/${name}`, `/${name}`] }));
/** By the route as the door names it. */
export const callOperations: ReadonlyMap<string, Operation> = new Map([
  ...[completing, messaging, responding, returning, embedding, ...others].map(
    (operation) => [operation.paths[0] ?? "", operation] as const,
  ),
  [embedMethod, embedding],
]);
export const listingModels: Operation = { groups: llm, paths: ["/v1/models", "/models"] };

const metricsPath = "/metrics";

/** Whether metrics may be read, where that takes a key: only where they are named. */
export function mayReadMetrics(allowed: readonly string[]): boolean {
  return allowed.includes(metricsPath);
}

/** The refusal of whoever may not. */
export function noMetricsReader(): GatewayError {
  return new GatewayError(
    "permission_denied",
    `Metrics are read with the master key, or a key that has \`${metricsPath}\` in its allowed_routes.`,
  );
}

/** Whether an entry has a form that can mean anything: "llm_api_routes", "/v1/chat/completions", "/v1/*". */
export function isRouteEntry(entry: string): boolean {
  return /^(?:\/|\*$|[a-z_]+_routes$)/.test(entry);
}

/** @param allowed empty: everything is. */
export function allowsOperation(allowed: readonly string[], { groups, paths }: Operation): boolean {
  return allowed.length === 0 || allowed.some((entry) => groups.includes(entry)) || allowsPath(allowed, paths);
}

/** Whether one of some paths is named. */
export function allowsPath(allowed: readonly string[], paths: readonly string[]): boolean {
  return allowed.some((entry) => paths.some((path) => matchWildcard(entry, path) !== undefined));
}
