import type { Clock } from "../clock.ts";
import type { Wire } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import type { ProviderHttp } from "./http.ts";
import { HttpProvider } from "./http-provider.ts";
import { MockProvider } from "./mock.ts";
import { openAiDialect } from "./openai.ts";
import type { Provider } from "./provider.ts";

/** One provider for each wire, and the mock, which speaks none. */
export class ProviderSet {
  readonly #byWire: Readonly<Partial<Record<Wire, Provider>>>;
  readonly #mock: Provider;

  constructor(parts: { http: ProviderHttp; clock: Clock }) {
    this.#byWire = { "openai-chat": new HttpProvider({ ...parts, dialect: openAiDialect }) };
    this.#mock = new MockProvider(parts);
  }

  of({ mock, wire }: Deployment): Provider {
    const provider = mock !== undefined || wire === undefined ? this.#mock : this.#byWire[wire];
    if (provider === undefined) throw new Error(`nothing here speaks ${wire}`);
    return provider;
  }
}
