import type { Clock } from "../clock.ts";
import type { Wire } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import { anthropicDialect } from "./anthropic.ts";
import type { ProviderHttp } from "./http.ts";
import { HttpProvider } from "./http-provider.ts";
import { MockProvider } from "./mock.ts";
import { openAiDialect } from "./openai.ts";
import type { Provider } from "./provider.ts";

/** One provider for each wire, and the mock, which speaks none. */
export class ProviderSet {
  readonly #byWire: Readonly<Record<Wire, Provider>>;
  readonly #mock: Provider;

  constructor(parts: { http: ProviderHttp; clock: Clock }) {
    this.#byWire = {
      "openai-chat": new HttpProvider({ ...parts, dialect: openAiDialect }),
      "anthropic-messages": new HttpProvider({ ...parts, dialect: anthropicDialect(parts) }),
    };
    this.#mock = new MockProvider(parts);
  }

  of({ mock, wire }: Deployment): Provider {
    return mock !== undefined || wire === undefined ? this.#mock : this.#byWire[wire];
  }
}
