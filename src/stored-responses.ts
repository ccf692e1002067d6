import type { Admission } from "./admission/admission.ts";
import type { Caller } from "./completion.ts";
import type { Deployment } from "./config/config.ts";
import { GatewayError } from "./errors.ts";
import { findResponse } from "./previous-response.ts";
import type { Provider } from "./providers/provider.ts";
import type { ResponseIds } from "./response-ids.ts";
import type { Snapshots } from "./routing/snapshots.ts";
import { renamedResponse } from "./wires/responses-answer.ts";

/** What can be done with an answer that its provider keeps. */
export type StoredAction = "retrieve" | "delete" | "cancel" | "list_input_items";

/** Something somebody wants done. */
export interface StoredAsk {
  readonly action: StoredAction;
  /** The answer, as its caller knows it. */
  readonly name: string;
  readonly query: URLSearchParams;
}

const requests: Readonly<Record<StoredAction, { readonly method: "GET" | "DELETE" | "POST"; readonly end: string }>> = {
  retrieve: { method: "GET", end: "" },
  delete: { method: "DELETE", end: "" },
  cancel: { method: "POST", end: "/cancel" },
  list_input_items: { method: "GET", end: "/input_items" },
};

/** Answers that providers keep for their callers: each is asked for where it was made, by whoever it is for. It costs nothing. */
export class StoredResponses {
  readonly #admission: Pick<Admission, "authenticate">;
  readonly #snapshots: Pick<Snapshots, "current">;
  readonly #providerOf: (deployment: Deployment) => Provider;
  readonly #ids: ResponseIds;

  constructor(parts: {
    admission: Pick<Admission, "authenticate">;
    snapshots: Pick<Snapshots, "current">;
    providerOf: (deployment: Deployment) => Provider;
    responseIds: ResponseIds;
  }) {
    this.#admission = parts.admission;
    this.#snapshots = parts.snapshots;
    this.#providerOf = parts.providerOf;
    this.#ids = parts.responseIds;
  }

  /**
   * @returns the provider's answer, JSON, with the names its caller knows.
   * @throws GatewayError response_not_found, and what the provider fails with.
   */
  async ask({ action, name, query }: StoredAsk, caller: Pick<Caller, "token" | "route" | "signal">): Promise<Buffer> {
    const grant = await this.#admission.authenticate(caller.token);
    grant.policy?.checkRoute(caller.route);
    const { router } = this.#snapshots.current;
    const { deployment, responseId } = findResponse(name, { ids: this.#ids, grant, router });
    const provider = this.#providerOf(deployment);
    const { method, end } = requests[action];
    const path = `/${encodeURIComponent(responseId)}${end}`;
    const bytes = await provider.stored?.({ deployment, method, path, query, signal: caller.signal });
    if (bytes === undefined) throw new GatewayError("response_not_found", "The response's provider keeps none.");
    const nameOf = (id: string) =>
      id === responseId
        ? name
        : this.#ids.nameFor(
            { deploymentId: deployment.id, responseId: id, tokensMax: Number.POSITIVE_INFINITY },
            grant,
          );
    return action === "list_input_items" ? bytes : renamedResponse(bytes, { nameOf });
  }
}
