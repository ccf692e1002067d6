import { Agent } from "undici";
import type { Secret } from "../../secret.ts";
import { DeliveryFailed, failureCode } from "./sink.ts";

/** Posts JSON to addresses that are secrets, over connections of its own. */
export class Poster {
  readonly #agent = new Agent({ connections: 2, keepAliveTimeout: 1_000 });

  /** @throws DeliveryFailed for anything but a 2xx. */
  async post(
    url: Secret,
    body: object,
    signal: AbortSignal,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    let status: number;
    try {
      const { origin, pathname, search } = new URL(url.reveal());
      const answer = await this.#agent.request({
        ...{ origin, path: pathname + search, method: "POST" },
        headers: { "content-type": "application/json", "user-agent": "tollgate", ...headers },
        body: JSON.stringify(body),
        signal,
      });
      status = answer.statusCode;
      await answer.body.dump();
    } catch (error) {
      const why = signal.aborted ? "did not answer in time" : `could not be reached (${failureCode(error)})`;
      throw new DeliveryFailed(`It ${why}.`, { isAway: true });
    }
    if (status < 200 || status > 299) throw new DeliveryFailed(`It answered ${status}.`, { isAway: false });
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}
