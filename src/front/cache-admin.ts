/** LiteLLM's paths for kept answers: `/cache/ping`, `/cache/delete` and `/cache/flushall`, for the master key alone. */

import type { AnswerStore } from "../cache/answer-store.ts";
import type { Json, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import { arrayOf, objectOf, parseJson } from "../wires/json.ts";
import type { MasterKey } from "./master-key.ts";

const keysMax = 1_000;
const keyCharsMax = 256;

/** Answers what an operator asks of the cache. */
export class CacheAdmin {
  readonly #store: AnswerStore;
  readonly #masterKey: MasterKey;

  constructor({ store, masterKey }: { store: AnswerStore; masterKey: MasterKey }) {
    this.#store = store;
    this.#masterKey = masterKey;
  }

  /** "local" or "redis". */
  get type(): string {
    return this.#store.type;
  }

  /** @throws GatewayError missing_api_key, permission_denied, counters_unavailable. */
  async ping(token: string | undefined): Promise<JsonObject> {
    this.#masterKey.check(token);
    if (!(await this.#store.ping())) throw unavailable(undefined);
    return { status: "healthy", cache_type: this.type, ping_response: true, set_cache_response: "success" };
  }

  /** @throws GatewayError as `ping`, and invalid_request. */
  async delete(token: string | undefined, body: Buffer): Promise<JsonObject> {
    this.#masterKey.check(token);
    const keys = arrayOf(objectOf(parseJson(body.toString()) as Json | undefined)?.keys);
    const isKey = (key: Json) => typeof key === "string" && key !== "" && key.length <= keyCharsMax;
    if (keys.length === 0 || keys.length > keysMax || !keys.every(isKey)) {
      const example = '{"keys": ["..."]}, each as x-litellm-cache-key had it';
      throw new GatewayError("invalid_request", `Send ${example}, at most ${keysMax}.`, { param: "keys" });
    }
    await this.#inTime(this.#store.delete(keys.map(String)));
    return { status: "success" };
  }

  /** @throws GatewayError as `ping`. */
  async flush(token: string | undefined): Promise<JsonObject> {
    this.#masterKey.check(token);
    await this.#inTime(this.#store.clear());
    return { status: "success" };
  }

  async #inTime(done: Promise<void>): Promise<void> {
    try {
      await done;
    } catch (thrown) {
      throw unavailable(thrown);
    }
  }
}

function unavailable(cause: unknown): GatewayError {
  return new GatewayError("counters_unavailable", "Redis does not answer. Try again shortly.", { cause });
}
