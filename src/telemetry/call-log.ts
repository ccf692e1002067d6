import type { Logger } from "pino";
import type { Usage } from "../completion.ts";
import { errorText } from "../error-text.ts";
import type { ErrorCode, GatewayError } from "../errors.ts";
import { formatUsd, type Nanos } from "../money.ts";
import { scrubCredentials } from "../secret.ts";
import type { CallLines } from "./call-lines.ts";
import type { CallFacts, CallOrigin } from "./telemetry.ts";

/** Callers write what they like; names of models are shorter. */
const modelCharsMax = 100;

/** What the line is made from, besides what its attempts said. */
interface CallEnd {
  readonly facts: CallFacts;
  readonly origin: CallOrigin;
  readonly traceId: string;
  /** The model as the caller spelled it. */
  readonly model: string;
  readonly stream: boolean;
  readonly durationMs: number;
}

/** The one line the log has of a call. Ids and figures only: what was said, and what a provider said of it, is never in it. */
export class CallLog {
  readonly #logger: Logger;
  readonly #lines: CallLines;
  #attempts = 0;
  #provider: string | undefined;
  #inputTokens = 0;
  #outputTokens = 0;
  #cost: Nanos = 0n;

  constructor(logger: Logger, lines: CallLines) {
    this.#logger = logger;
    this.#lines = lines;
  }

  /** An attempt has ended. */
  attempted(provider: string, usage: Usage | undefined, cost: Nanos): void {
    this.#attempts += 1;
    this.#provider = provider;
    this.#inputTokens += usage?.inputTokens ?? 0;
    this.#outputTokens += usage?.outputTokens ?? 0;
    this.#cost += cost;
  }

  end(failure: GatewayError | undefined, end: CallEnd): void {
    const ours = failure !== undefined && failure.kind.blame !== "caller";
    if (!ours && !this.#logger.isLevelEnabled("info")) return;
    const members = this.#members(failure, end);
    if (failure === undefined) this.#lines.info(members, "call answered");
    // What a caller got wrong is quoted in what the provider said about it: prompts are not logged.
    else if (!ours) this.#lines.info(members, "call refused");
    else {
      const cause = causeOf(failure, this.#logger.isLevelEnabled("debug"));
      this.#logger.warn({ ...JSON.parse(`{${members.slice(1)}}`), cause }, "call failed");
    }
  }

  /** JSON, each with a comma before it. */
  #members(failure: GatewayError | undefined, { facts, origin, traceId, model, stream, durationMs }: CallEnd): string {
    const { callId, keyId, teamId, modelGroup, cacheHit } = facts;
    // Callers name their requests.
    let members = `,"requestId":${JSON.stringify(scrubCredentials(origin.requestId))}`;
    if (traceId !== "") members += `,"traceId":"${traceId}"`;
    if (callId !== undefined) members += `,"callId":"${callId}"`;
    if (keyId !== undefined) members += `,"keyId":${JSON.stringify(keyId)}`;
    if (teamId !== undefined) members += `,"teamId":${JSON.stringify(teamId)}`;
    members += `,"door":"${origin.door}","route":${JSON.stringify(origin.route)}`;
    if (modelGroup !== undefined) members += `,"model":${JSON.stringify(modelGroup)}`;
    // Of a group that is there nobody needs to know what it was called.
    else members += `,"requestedModel":${JSON.stringify(scrubCredentials(model.slice(0, modelCharsMax)))}`;
    members += `,"stream":${stream},"code":"${failure?.code ?? "ok"}","durationMs":${Math.round(durationMs * 10) / 10}`;
    members += `,"attempts":${this.#attempts}`;
    if (this.#provider !== undefined) members += `,"provider":${JSON.stringify(this.#provider)}`;
    members += `,"inputTokens":${this.#inputTokens},"outputTokens":${this.#outputTokens},"costUsd":"${formatUsd(this.#cost)}"`;
    return cacheHit === undefined ? members : `${members},"cacheHit":${cacheHit}`;
  }
}

/** Before it is refused for its credentials, its place or its rate, nobody has read a prompt; later its words may be the prompt's. */
const toldOf: ReadonlySet<ErrorCode> = new Set([
  ...(["provider_auth_failed", "provider_model_not_found", "provider_rate_limited", "provider_unavailable"] as const),
]);

function causeOf(failure: GatewayError, tellsAll: boolean): string {
  const { code, facts } = failure;
  if (tellsAll || facts.quotesProvider !== true || toldOf.has(code))
    return errorText(failure, code === "internal_error");
  const status = facts.metadata?.providerStatus;
  const what = status === undefined ? "the provider reported a failure while it answered" : `provider status ${status}`;
  return `${what}; its words are told at TOLLGATE_LOG_LEVEL=debug`;
}
