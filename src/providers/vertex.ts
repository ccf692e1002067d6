/** Vertex AI: models of Google and others in Google's cloud, under one project and place, by one token. */

import type { GoogleAccess } from "../config/cloud-access.ts";
import { ProviderFailure } from "../errors.ts";
import { countOf, objectOf } from "../wires/json.ts";
import { rewriteMembers, scanObject } from "../wires/json-spans.ts";
import type { GoogleTokenStore } from "./google-token.ts";
import type { Dialect } from "./http-provider.ts";
import type { ProviderCall } from "./provider.ts";

/** What stands in the body in place of the model, which is in the path, and of Anthropic's header. */
const messagesVersion = "vertex-2023-10-16";

/** Where the models are, and what opens the door. @throws ProviderFailure if there is no token, or nobody says whose project. */
export async function vertexPlace(
  { deployment, signal }: ProviderCall,
  access: GoogleAccess,
  tokens: GoogleTokenStore,
): Promise<{ readonly place: string; readonly headers: Readonly<Record<string, string>> }> {
  const { token, project } = await tokens.get(access, signal);
  const owner = access.project ?? project;
  if (owner === undefined) throw noProject();
  const path = `projects/${encodeURIComponent(owner)}/locations/${encodeURIComponent(access.location)}`;
  return { place: `${deployment.apiBase}/${path}`, headers: { authorization: `Bearer ${token.reveal()}` } };
}

/** Claude in Google's cloud: Anthropic's Messages at another address, with another key, and the model in the path. */
export function vertexMessagesDialect({ messages, tokens }: { messages: Dialect; tokens: GoogleTokenStore }): Dialect {
  return {
    ...messages,
    async ask(call) {
      const { access, model } = call.deployment;
      if (access?.cloud !== "google") return messages.ask(call);
      const asked = await messages.ask(call);
      const { place, headers } = await vertexPlace(call, access, tokens);
      const method = call.request.stream ? "streamRawPredict" : "rawPredict";
      return {
        url: new URL(`${place}/publishers/anthropic/models/${encodeURIComponent(model)}:${method}`),
        headers: { ...asked.headers, ...headers },
        body: withVersion(asked.body, [["model", undefined]]),
      };
    },
    async askCount(call) {
      const { access } = call.deployment;
      if (access?.cloud !== "google") return messages.askCount?.(call);
      const asked = await messages.ask(call);
      const { place, headers } = await vertexPlace(call, access, tokens);
      const question = {
        // One name for all models; whose tokens are meant is in the body.
        url: new URL(`${place}/publishers/anthropic/models/count-tokens:rawPredict`),
        headers: { ...asked.headers, ...headers },
        body: withVersion(asked.body, []),
      };
      return { question, countIn: (body) => countOf(objectOf(body)?.input_tokens) };
    },
  };
}

function withVersion(bytes: Buffer, changes: readonly (readonly [string, undefined])[]): Buffer {
  const version = ["anthropic_version", JSON.stringify(messagesVersion)] as const;
  return rewriteMembers({ bytes, spans: scanObject(bytes).spans }, new Map([...changes, version]));
}

function noProject(): ProviderFailure {
  return new ProviderFailure(
    "provider_auth_failed",
    "The gateway does not know whose project to call. Tell your operator.",
    { billable: false, cause: new Error("vertex_project is not set, and the account's key names no project") },
  );
}
