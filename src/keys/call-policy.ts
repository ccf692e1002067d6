import {
  allowsOperation,
  allowsPath,
  callOperations,
  completing,
  listingModels,
  messaging,
  responding,
  returning,
} from "../allowed-routes.ts";
import type { Json, JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";

/** Whoever may complete by OpenAI's chat may by these. */
const otherWires = new Set([completing, messaging, responding, returning]);

/** What a key's calls may be and must have, worked out once for all of them. */
export class CallPolicy {
  readonly allowedRoutes: readonly string[];
  readonly #mayComplete: boolean;
  readonly #mayListModels: boolean;
  readonly #params: readonly { readonly name: string; readonly path: readonly string[] }[];

  /** @returns undefined if anything goes: calls then cost nothing to check. */
  static of(allowedRoutes: readonly string[], enforcedParams: readonly string[]): CallPolicy | undefined {
    return allowedRoutes.length + enforcedParams.length === 0
      ? undefined
      : new CallPolicy(allowedRoutes, enforcedParams);
  }

  private constructor(allowedRoutes: readonly string[], enforcedParams: readonly string[]) {
    this.allowedRoutes = allowedRoutes;
    this.#mayComplete = allowsOperation(allowedRoutes, completing);
    this.#mayListModels = allowsOperation(allowedRoutes, listingModels);
    this.#params = enforcedParams.map((name) => ({ name, path: name.split(".") }));
  }

  /**
   * @param route as the door names it.
   * @param body in OpenAI's shape; asked for only if it has to have something.
   * @throws GatewayError permission_denied, invalid_request.
   */
  checkCompletion(route: string, body: () => JsonObject): void {
    this.checkRoute(route);
    if (this.#params.length === 0) return;
    const chat = body();
    for (const { name, path } of this.#params) {
      if (has(chat, path)) continue;
      throw new GatewayError("invalid_request", `The key's calls must have \`${name}\`. Add it to the request.`, {
        param: name,
      });
    }
  }

  /** @throws GatewayError permission_denied. */
  checkRoute(route: string): void {
    if (!this.#allows(route)) throw notAllowed(route);
  }

  #allows(route: string): boolean {
    const operation = callOperations.get(route);
    if ((operation === undefined || otherWires.has(operation)) && this.#mayComplete) return true;
    return operation === undefined
      ? allowsPath(this.allowedRoutes, [route])
      : allowsOperation(this.allowedRoutes, operation);
  }

  /** @throws GatewayError permission_denied. */
  checkModelList(): void {
    if (!this.#mayListModels) throw notAllowed("/v1/models");
  }
}

function has(body: JsonObject, path: readonly string[]): boolean {
  let value: Json | undefined = body;
  for (const name of path) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, name))
      return false;
    value = value[name];
  }
  return value !== undefined && value !== null;
}

function notAllowed(route: string): GatewayError {
  return new GatewayError("permission_denied", `The key may not use ${route}. Ask your operator to allow it.`, {
    metadata: { route },
  });
}
