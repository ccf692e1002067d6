/** Methods served by connect: Connect, gRPC-Web, and gRPC over whatever is not HTTP/2. */

import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { abortReason } from "./rpc-error.ts";
import { requestIdOf } from "./rpc-handlers.ts";
import { isUnary, pathOf, type RpcCall, type RpcMethod } from "./rpc-method.ts";

/** Adds methods to a router. */
export function methodRoutes(router: ConnectRouter, methods: readonly RpcMethod[]): void {
  for (const method of methods) {
    const route = pathOf(method);
    if (isUnary(method)) {
      router.rpc(method.desc, async (message, context) => {
        const call = new ConnectCall(route, context);
        try {
          return await method.run(message, call);
        } finally {
          call.release();
        }
      });
    } else {
      router.rpc(method.desc, async function* (message, context) {
        const call = new ConnectCall(route, context);
        try {
          yield* method.run(message, call);
        } finally {
          call.release();
        }
      });
    }
  }
}

class ConnectCall implements RpcCall {
  readonly route: string;
  readonly #context: HandlerContext;
  readonly #abort = new AbortController();
  readonly #onAborted = () => this.#abort.abort(abortReason(this.#context.signal.reason));

  constructor(route: string, context: HandlerContext) {
    this.route = route;
    this.#context = context;
    if (context.signal.aborted) this.#onAborted();
    else context.signal.addEventListener("abort", this.#onAborted);
  }

  get requestId(): string {
    return requestIdOf(this.#context);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  header(name: string): string | undefined {
    return this.#context.requestHeader.get(name) || undefined;
  }

  answerHeader(name: string, value: string): void {
    this.#context.responseHeader.set(name, value);
  }

  /** connect aborts every call at its end; that is not to be heard. */
  release(): void {
    this.#context.signal.removeEventListener("abort", this.#onAborted);
  }
}
