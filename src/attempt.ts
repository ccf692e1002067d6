import type { AttemptResult, Booked, Spending } from "./admission/ticket.ts";
import type { Clock } from "./clock.ts";
import type { CompletionEvent, CompletionRequest, EndEvent, Usage } from "./completion.ts";
import type { Deployment } from "./config/config.ts";
import { ContentRecorder } from "./content-recorder.ts";
import type { Board } from "./counters/board.ts";
import type { AttemptTimes } from "./counters/own-figures.ts";
import { GatewayError, ProviderFailure } from "./errors.ts";
import type { SpendStatus } from "./keys/authority.ts";
import { boardNameOf } from "./routing/health.ts";
import type { AttemptTrace } from "./telemetry/telemetry.ts";
import { roughTokens } from "./wires/rough-tokens.ts";

/** One attempt at one deployment: what came of it, counted, and booked exactly once. */
export class Attempt {
  readonly #spending: Spending;
  readonly #trace: AttemptTrace;
  readonly #clock: Clock;
  readonly #board: Board;
  readonly #startedMs: number;
  #firstOutputMs: number | undefined;
  readonly deployment: Deployment;
  readonly #isStream: boolean;
  #outputTokens = 0;
  #firstOutputAtMs: number | undefined;
  #responseId: string | undefined;
  #model: string | undefined;
  readonly #finishReasons: string[] = [];
  /** Undefined: nothing of what is said may be recorded. */
  readonly #content: ContentRecorder | undefined;
  #booked = false;
  #isCancelled = false;
  #usage: Usage | undefined;

  constructor(parts: {
    spending: Spending;
    trace: AttemptTrace;
    clock: Clock;
    board: Board;
    request: CompletionRequest;
  }) {
    this.#spending = parts.spending;
    this.#trace = parts.trace;
    this.#clock = parts.clock;
    this.deployment = parts.spending.place.deployment;
    this.#isStream = parts.request.stream;
    if (parts.trace.takesContent) this.#content = new ContentRecorder(parts.request);
    this.#board = parts.board;
    this.#startedMs = parts.clock.monotonicMs();
    this.#board.began(boardNameOf(this.deployment));
  }

  /** Whether the provider has begun to answer; from then on the attempt cannot be repeated. */
  get answered(): boolean {
    return this.#firstOutputAtMs !== undefined;
  }

  /** What was booked of it; undefined: nothing yet. */
  get usage(): Usage | undefined {
    return this.#usage;
  }

  /** Whether it ended because nobody wanted its answer any more. */
  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** The provider has begun to answer. @returns after how many milliseconds. */
  begin(): number {
    this.#firstOutputAtMs = this.#clock.nowMs();
    this.#firstOutputMs = this.#clock.monotonicMs();
    this.#trace.firstOutput();
    return this.#firstOutputMs - this.#startedMs;
  }

  /** Counts output as it passes, in case the provider never says how much it was. @returns the event. */
  meter<Event extends Exclude<CompletionEvent, EndEvent>>(event: Event): Event {
    if (event.type === "raw") this.#outputTokens += event.outputTokens;
    else if (event.type === "delta") this.#outputTokens += roughTokens(event);
    else if (event.type === "finish") this.#finishReasons.push(event.reason);
    else {
      this.#responseId = event.id;
      this.#model = event.model;
    }
    this.#content?.add(event);
    return event;
  }

  /** The answer is whole. */
  succeed(end: EndEvent): Booked {
    this.#responseId = end.responseId ?? this.#responseId;
    this.#model = end.model ?? this.#model;
    if (this.#finishReasons.length === 0) this.#finishReasons.push(...(end.finishReasons ?? []));
    this.#content?.add(end);
    this.#outputTokens += end.outputTokens ?? 0;
    return this.#book("success", { usage: end.usage, billable: true }, undefined);
  }

  /**
   * The attempt failed.
   *
   * @param signal the attempt's: once aborted, whatever was thrown is a consequence of that.
   * @returns the failure as the caller shall see it.
   */
  fail(thrown: unknown, signal: AbortSignal): GatewayError {
    const cause: unknown = signal.aborted ? signal.reason : thrown;
    const failure = GatewayError.from(cause);
    // An attempt that was too slow is aborted too, but that is its own fault.
    this.#isCancelled = signal.aborted && !(cause instanceof ProviderFailure);
    if (this.#booked) return failure;
    const billable = this.answered || !(cause instanceof ProviderFailure) || cause.billable;
    this.#book(this.#isCancelled ? "cancelled" : "failure", { usage: undefined, billable }, failure);
    return failure;
  }

  /** The reader went away between two events. Does nothing if the attempt is booked already. */
  abandon(): void {
    if (this.#booked) return;
    const failure = new GatewayError("client_closed_request", "The caller went away.");
    this.#book("cancelled", { usage: undefined, billable: true }, failure);
  }

  #book(
    status: SpendStatus,
    outcome: Pick<AttemptResult, "usage" | "billable">,
    failure: GatewayError | undefined,
  ): Booked {
    this.#booked = true;
    const responseId = this.#responseId;
    let booked: Booked | undefined;
    this.#trace.settling();
    try {
      booked = this.#spending.settle({
        ...outcome,
        status,
        responseId,
        outputTokens: this.#outputTokens,
        firstOutputAtMs: this.#firstOutputAtMs,
      });
      this.#usage = booked.usage;
      return booked;
    } finally {
      this.#board.ended(boardNameOf(this.deployment), this.#timesOf(status, booked?.usage));
      this.#trace.end({
        ...{ usage: booked?.usage, cost: booked?.cost ?? 0n, responseId, responseModel: this.#model },
        ...{ finishReasons: this.#finishReasons, error: failure?.code, content: this.#content?.content },
      });
    }
  }

  /** Only whole answers tell how quick a deployment is. */
  #timesOf(status: SpendStatus, usage: Usage | undefined): AttemptTimes {
    const { inputTokens = 0, outputTokens = 0 } = usage ?? {};
    const tokens = inputTokens + outputTokens;
    if (status !== "success" || this.#firstOutputMs === undefined) return { tokens };
    const tookMs = this.#clock.monotonicMs() - this.#startedMs;
    return {
      tokens,
      ...(outputTokens > 0 && { msPerOutputToken: tookMs / outputTokens }),
      ...(this.#isStream && { firstTokenMs: this.#firstOutputMs - this.#startedMs }),
    };
  }
}
