import type { CallEvent, Caller, CompletionRequest } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import type { TypedGateway } from "../../src/front/doors.ts";

export interface ScriptedCall {
  readonly request: CompletionRequest;
  readonly caller: Caller;
  /** How the iteration was left: by its own end, by an error, or by its reader. */
  ended: "open" | "finished" | "failed" | "returned";
}

/** What happens in a call, in order: an event, an error to throw, or "wait" for the caller to abort. */
export type Script = readonly (CallEvent | GatewayError | Error | "wait")[];

export const accepted: CallEvent = {
  type: "accepted",
  callId: "call-1",
  deploymentId: "deployment-1",
  modelGroup: "m",
  attempts: 2,
  fallbacks: 0,
  timeoutMs: 5_000,
  limits: [],
};
export const start: CallEvent = { type: "start", id: "chatcmpl-1", model: "provider-model", createdS: 1_700_000_000 };
export const settled: CallEvent = {
  type: "settled",
  usage: {
    inputTokens: 11,
    outputTokens: 7,
    cacheReadInputTokens: 3,
    cacheWriteInputTokens: 2,
    reasoningOutputTokens: 1,
    estimated: false,
  },
  cost: 1_500_000n,
  raw: undefined,
};

export const hello: Script = [
  accepted,
  start,
  { type: "delta", choice: 0, text: "Hel" },
  { type: "delta", choice: 0, text: "lo ✓" },
  { type: "finish", choice: 0, reason: "stop" },
  settled,
];

/** A gateway that plays a script, and remembers who called and how it ended. */
export class ScriptedGateway implements TypedGateway {
  readonly calls: ScriptedCall[] = [];
  readonly #script: (request: CompletionRequest) => Script;
  readonly #watchers = new Set<() => void>();

  constructor(script: Script | ((request: CompletionRequest) => Script) = hello) {
    this.#script = typeof script === "function" ? script : () => script;
  }

  async *complete(request: CompletionRequest, caller: Caller): AsyncGenerator<CallEvent, void, undefined> {
    const call: ScriptedCall = { request, caller, ended: "open" };
    this.calls.push(call);
    let ended: ScriptedCall["ended"] = "returned";
    try {
      for (const step of this.#script(request)) {
        if (step === "wait") await aborted(caller.signal);
        else if (step instanceof Error) throw step;
        else yield step;
      }
      ended = "finished";
    } catch (error) {
      ended = "failed";
      throw error;
    } finally {
      call.ended = ended;
      for (const watcher of this.#watchers) watcher();
    }
  }

  async listModels(token: string | undefined): Promise<string[]> {
    if (token === undefined) throw new GatewayError("missing_api_key", "No api key passed in.");
    return ["a", "b"];
  }

  /** The first call, once it has ended. */
  async firstCall(): Promise<ScriptedCall> {
    for (;;) {
      const [call] = this.calls;
      if (call !== undefined && call.ended !== "open") return call;
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
    }
  }
}

/** Throws the signal's reason when it aborts, as everything the gateway waits for does. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}
