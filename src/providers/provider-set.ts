import type { Clock } from "../clock.ts";
import type { ProviderWire } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import { anthropicDialect } from "./anthropic.ts";
import { AwsCredentialStore } from "./aws-credentials.ts";
import { bedrockDialect } from "./bedrock.ts";
import { EntraTokenStore } from "./entra-token.ts";
import { geminiDialect } from "./gemini.ts";
import { GoogleTokenStore } from "./google-token.ts";
import type { ProviderHttp } from "./http.ts";
import { type Dialect, HttpProvider } from "./http-provider.ts";
import { MockProvider } from "./mock.ts";
import { openAiDialect } from "./openai.ts";
import type { Provider } from "./provider.ts";
import { vertexMessagesDialect } from "./vertex.ts";

/** One provider for each wire, and the mock, which speaks none. */
export class ProviderSet {
  readonly #byWire: Readonly<Record<ProviderWire, Provider>>;
  readonly #mock: Provider;

  constructor(parts: { http: ProviderHttp; clock: Clock }) {
    const { clock } = parts;
    const tokens = new GoogleTokenStore(parts);
    const speaking = (dialect: Dialect) => new HttpProvider({ ...parts, dialect });
    this.#byWire = {
      "openai-chat": speaking(openAiDialect({ tokens: new EntraTokenStore(parts) })),
      gemini: speaking(geminiDialect({ clock, tokens })),
      "bedrock-converse": speaking(bedrockDialect({ clock, credentials: new AwsCredentialStore(parts) })),
      "anthropic-messages": speaking(vertexMessagesDialect({ messages: anthropicDialect(parts), tokens })),
    };
    this.#mock = new MockProvider(parts);
  }

  of({ mock, wire }: Deployment): Provider {
    return mock !== undefined || wire === undefined ? this.#mock : this.#byWire[wire];
  }
}
