import type { Client, Interceptor } from "@connectrpc/connect";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { keepProcessAlive, pause, systemClock } from "./clock.ts";
import { CompletionService } from "./gen/tollgate/completion/v1/completion_pb.ts";

export * from "./gen/tollgate/completion/v1/completion_pb.ts";

/** How to reach a sidecar. */
export interface CompletionClientOptions {
  /** The virtual key, "sk-...". */
  readonly apiKey: string;
  /** The sidecar. Default: `http://127.0.0.1:4000`. */
  readonly baseUrl?: string;
  /** How long a call may take unless it says otherwise, in milliseconds. Default: ten minutes, as OpenAI's SDKs have it. */
  readonly timeoutMs?: number;
  /** How often a unary call is repeated after a failure that may pass. Default: 2. Streams are never repeated. */
  readonly retries?: number;
}

/** The generated client of the completion service. */
export type CompletionClient = Client<typeof CompletionService>;

const longestRetryAfterMs = 30_000;

/**
 * A client of the sidecar with defaults that hold under load: one HTTP/2 connection with room for many large prompts at once, a
 * deadline on every call, and repeats only where the sidecar says that one may help.
 */
export function createCompletionClient(options: CompletionClientOptions): CompletionClient {
  const { apiKey, baseUrl = "http://127.0.0.1:4000", timeoutMs = 600_000, retries = 2 } = options;
  const authorize: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${apiKey}`);
    return next(request);
  };
  const transport = createGrpcTransport({
    baseUrl,
    defaultTimeoutMs: timeoutMs,
    interceptors: [repeat(retries), authorize],
    // Node's default of 10 MB refuses the thirteenth 900 KB prompt in flight.
    nodeOptions: { maxSessionMemory: 1_000 },
  });
  return createClient(CompletionService, transport);
}

/** Repeats unary calls that failed with UNAVAILABLE or a rate limit, unless `x-should-retry: false`; waits as told. */
function repeat(retries: number): Interceptor {
  return (next) => async (request) => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await next(request);
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        if (request.stream || attempt >= retries || request.signal.aborted || !mayPass(error)) throw error;
        const askedMs = Number(error.metadata.get("retry-after-ms") ?? Number.NaN);
        const pauseMs = Number.isFinite(askedMs) ? Math.min(askedMs, longestRetryAfterMs) : 500 * 2 ** attempt;
        await waitFor(pauseMs, request.signal);
      }
    }
  };
}

/** A client may have nothing else to do: its process must not end while it waits. */
async function waitFor(durationMs: number, signal: AbortSignal): Promise<void> {
  const letEnd = keepProcessAlive();
  await pause(systemClock, durationMs, signal).finally(letEnd);
}

function mayPass(error: ConnectError): boolean {
  if (error.metadata.get("x-should-retry") === "false") return false;
  return error.code === Code.Unavailable || error.code === Code.ResourceExhausted;
}
