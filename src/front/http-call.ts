import type { ServerResponse } from "node:http";
import type { Clock, Random } from "../clock.ts";
import type { AcceptedEvent, CallEvent, Caller, CompletionRequest, OutputEvent, SettledEvent } from "../completion.ts";
import { GatewayError, type Trail } from "../errors.ts";
import { formatUsd } from "../money.ts";
import type { OnBug } from "../server/rpc-handlers.ts";
import type { AnswerFormat, StreamEncoder } from "./answer-format.ts";
import type { CompletionGateway } from "./doors.ts";
import { sendError } from "./http-error.ts";
import { addLimitHeaders } from "./limit-headers.ts";
import type { SsePulse } from "./sse-pulse.ts";
import { StreamWriter } from "./stream-writer.ts";

export interface HttpCallParts {
  readonly gateway: CompletionGateway;
  readonly clock: Clock;
  readonly random: Random;
  readonly pulse: SsePulse;
  readonly pingMs: number;
  readonly stallMs: number;
  readonly onBug: OnBug;
}

/** One call: takes the gateway's events and writes them whole or as a stream, in the caller's wire. */
export class HttpCall {
  readonly #parts: HttpCallParts;
  readonly #format: AnswerFormat;
  readonly #res: ServerResponse;
  readonly #request: CompletionRequest;
  readonly #abort = new AbortController();
  readonly #caller: Caller;
  /** Names and values in turn: node writes such a list as it is, and looks at each header of an object twice. */
  #headers: string[] = [];
  #stream: StreamWriter | undefined;
  #encoder: StreamEncoder | undefined;
  #gone = false;

  constructor(
    parts: HttpCallParts & { readonly format: AnswerFormat },
    res: ServerResponse,
    request: CompletionRequest,
    caller: Omit<Caller, "signal">,
  ) {
    this.#parts = parts;
    this.#format = parts.format;
    this.#res = res;
    this.#request = request;
    this.#caller = {
      ...caller,
      signal: this.#abort.signal,
      sink: request.stream ? (event) => this.#pour(event) : undefined,
    };
    this.#headers.push("x-request-id", caller.requestId);
    const { requestIdHeader } = parts.format;
    if (requestIdHeader !== undefined) this.#headers.push(requestIdHeader, caller.requestId);
  }

  /** Makes the call and answers it. Never rejects. */
  async run(): Promise<void> {
    this.#res.on("close", () => {
      this.#gone = true;
      if (this.#res.writableEnded) return;
      this.#abort.abort(new GatewayError("client_closed_request", "The caller went away."));
    });
    try {
      const events = this.#parts.gateway.complete(this.#request, this.#caller);
      if (this.#request.stream) await this.#answerStream(events);
      else await this.#answerWhole(events);
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  async #answerWhole(events: AsyncIterable<CallEvent>): Promise<void> {
    const encoder = this.#format.answer(this.#request);
    let settled = false;
    for await (const event of events) {
      if (event.type === "accepted") this.#accept(event);
      else if (event.type === "settled") {
        settled = true;
        // It is booked; what is told of it is not waited for. Not left here: an iteration ended by its reader counts as abandoned.
        if (!this.#gone) this.#writeWhole(event, event.raw ?? encoder.end(event.usage));
      } else if (event.type !== "raw") encoder.add(event);
    }
    if (!settled) throw new GatewayError("internal_error", "The answer has no end.");
  }

  #writeWhole({ cost, mediaType = "application/json" }: SettledEvent, body: Buffer): void {
    this.#headers.push("x-litellm-response-cost", formatUsd(cost));
    this.#headers.push("content-type", mediaType, "content-length", String(body.length));
    this.#res.writeHead(200, this.#headers);
    this.#res.end(body);
  }

  async #answerStream(events: AsyncIterable<CallEvent>): Promise<void> {
    const encoder = this.#format.stream(this.#request);
    this.#encoder = encoder;
    let settled = false;
    for await (const event of events) {
      if (event.type === "accepted") {
        this.#accept(event);
        continue;
      }
      // Ending the iteration settles the call with what it has used.
      if (this.#gone) return;
      this.#stream ??= this.#writer("mediaType" in event ? event.mediaType : undefined);
      if (event.type === "settled") {
        settled = true;
        this.#stream.end(event.raw ?? encoder.end(event.usage));
        // Not left here: an iteration ended by its reader counts as abandoned.
        continue;
      }
      const full = this.#write(event, this.#stream, encoder);
      if (full !== undefined && !(await full)) return;
    }
    if (!settled) throw new GatewayError("internal_error", "The answer has no end.");
  }

  /** What comes after a stream's first event. A failure here is a bug of ours, and ends the call as its caller's going away would. */
  #pour(event: OutputEvent): Promise<boolean> | undefined {
    if (this.#gone || this.#stream === undefined || this.#encoder === undefined) return undefined;
    try {
      return this.#write(event, this.#stream, this.#encoder);
    } catch (thrown) {
      this.#abort.abort(GatewayError.from(thrown));
      return undefined;
    }
  }

  /** @returns undefined if more may be written at once, else whether the reader has caught up. */
  #write(event: OutputEvent, stream: StreamWriter, encoder: StreamEncoder): Promise<boolean> | undefined {
    const frames = event.type === "raw" ? event.bytes : encoder.encode(event);
    if (frames === undefined) stream.flush();
    else if (!stream.write(frames)) return stream.drained();
    return undefined;
  }

  #writer(mediaType: string | undefined): StreamWriter {
    const headers = this.#headers;
    // They are out, and a stream may be long.
    this.#headers = [];
    return new StreamWriter({ ...this.#parts, ping: this.#format.ping, res: this.#res, mediaType }, headers);
  }

  #accept(event: AcceptedEvent): void {
    const { callId, deploymentId, modelGroup, region, limits, cache } = event;
    this.#headers.push("x-litellm-call-id", headerText(callId));
    this.#headers.push("x-litellm-model-id", headerText(deploymentId), "x-litellm-model-group", headerText(modelGroup));
    if (region !== undefined) this.#headers.push("x-litellm-model-region", headerText(region));
    addTrailHeaders(this.#headers, event);
    addLimitHeaders(this.#headers, limits, modelGroup, this.#format.limitNames);
    if (cache === undefined) return;
    this.#headers.push("x-litellm-cache-key", cache.key, "x-tollgate-cache", cache.isHit ? "hit" : "miss");
    // A stream's head goes out before its cost is known, but for this.
    if (cache.isHit && this.#request.stream) this.#headers.push("x-litellm-response-cost", "0");
  }

  #fail(thrown: unknown): void {
    const error = GatewayError.from(thrown);
    const { requestId, route } = this.#caller;
    if (error.code === "internal_error") this.#parts.onBug(error.cause ?? error, { requestId, route });
    if (this.#gone || this.#res.writableEnded) return;
    // After the first byte the status is gone.
    if (this.#stream !== undefined && this.#encoder !== undefined) {
      this.#stream.fail(this.#encoder.fail(error, requestId));
    } else {
      const headers = objectOf([...this.#headers, ...headersOf(error.facts.trail)]);
      sendError(this.#res, error, this.#format.error(error, requestId), this.#parts.random, headers);
    }
  }
}

/** How far a call came, in LiteLLM's headers. */
function addTrailHeaders(
  headers: string[],
  { attempts, fallbacks, timeoutMs }: Pick<Trail, "attempts" | "fallbacks" | "timeoutMs">,
): void {
  headers.push("x-litellm-attempted-retries", String(Math.max(0, attempts - 1 - fallbacks)));
  headers.push("x-litellm-attempted-fallbacks", String(fallbacks));
  // As Python writes floats, which LiteLLM's clients may compare with.
  if (timeoutMs !== undefined) headers.push("x-litellm-timeout", secondsText(timeoutMs));
}

function headersOf(trail: Trail | undefined): string[] {
  if (trail === undefined) return [];
  const { callId, deploymentId, modelGroup } = trail;
  const headers = ["x-litellm-call-id", headerText(callId)];
  addTrailHeaders(headers, trail);
  headers.push("x-litellm-model-group", headerText(modelGroup));
  if (deploymentId !== undefined) headers.push("x-litellm-model-id", headerText(deploymentId));
  return headers;
}

/** Of a header that is there twice the last counts. */
function objectOf(headers: readonly string[]): Record<string, string> {
  const object: Record<string, string> = {};
  for (let index = 0; index < headers.length; index += 2) object[headers[index] ?? ""] = headers[index + 1] ?? "";
  return object;
}

function secondsText(ms: number): string {
  const seconds = Math.round(ms) / 1000;
  return Number.isInteger(seconds) ? `${seconds}.0` : String(seconds);
}

/** Names come from the operator's file and may hold what a header must not. */
function headerText(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : encodeURIComponent(text);
}
