import type { Clock } from "../clock.ts";
import type { Usage } from "../completion.ts";
import type { ErrorCode } from "../errors.ts";
import type { Nanos } from "../money.ts";
import { type CallCells, nobody, type Target } from "./call-cells.ts";
import type { Exemplar } from "./metric-family.ts";
import type { AttemptFacts, CallFacts } from "./telemetry.ts";

const unknownModel = "other";

/** Measures one call; what came of it is counted when it ends. */
export class CallMeter {
  readonly #cells: CallCells;
  readonly #clock: Clock;
  readonly #route: string;
  readonly #isStream: boolean;
  readonly #startedMs: number;
  readonly #fallbacks: { from: string; to: string; reason: ErrorCode }[] = [];
  #owner = nobody;
  #model = unknownModel;
  #provider = "none";
  #attemptsUnderWay = 0;
  #firstAttemptMs: number | undefined;
  #lastAttemptMs = 0;

  constructor(cells: CallCells, clock: Clock, call: { readonly route: string; readonly stream: boolean }) {
    this.#cells = cells;
    this.#clock = clock;
    this.#route = call.route;
    this.#isStream = call.stream;
    this.#startedMs = clock.monotonicMs();
    cells.inFlight += 1;
  }

  /** How long it has taken so far, in milliseconds. */
  get durationMs(): number {
    return this.#clock.monotonicMs() - this.#startedMs;
  }

  /** Facts learnt on the way. */
  identify(facts: CallFacts): void {
    const { keyId, modelGroup, cacheHit } = facts;
    if (keyId !== undefined) this.#owner = this.#cells.owner(keyId, facts.keyAlias, facts.teamId, facts.userId);
    if (modelGroup !== undefined) this.#model = modelGroup;
    if (cacheHit === true) this.#provider = "cache";
  }

  /** It goes on in another group. */
  fellBack(from: string, to: string, reason: ErrorCode): void {
    this.#fallbacks.push({ from, to, reason });
  }

  /** An attempt begins. */
  attempt({
    deploymentId,
    provider,
    model,
    apiBase = "",
    modelGroup,
  }: Pick<AttemptFacts, "deploymentId" | "provider" | "model" | "apiBase" | "modelGroup">): AttemptMeter {
    const target = this.#cells.target({ deploymentId, provider, model, apiBase, modelGroup });
    this.#provider = target.provider;
    this.#firstAttemptMs ??= this.#clock.monotonicMs();
    this.#attemptsUnderWay += 1;
    return new AttemptMeter(this.#clock, (attempt) => this.#ended(target, attempt));
  }

  /** @param traceId of a trace that is recorded; undefined: there is none. */
  end(failure: ErrorCode | undefined, traceId: string | undefined): void {
    const cells = this.#cells;
    const nowMs = this.#clock.monotonicMs();
    const seconds = (nowMs - this.#startedMs) / 1000;
    const exemplar: Exemplar | undefined =
      traceId === undefined ? undefined : { traceId, value: seconds, atMs: this.#clock.nowMs() };
    const isFallback = this.#fallbacks.length > 0;
    const cell = cells.callCell([
      this.#owner,
      this.#model,
      this.#route,
      this.#isStream,
      failure ?? "ok",
      this.#provider,
      isFallback,
    ]);
    cell.count += 1;
    cell.durations.observe(seconds, exemplar);
    if (this.#firstAttemptMs !== undefined && this.#attemptsUnderWay === 0)
      cell.overheads.observe((this.#firstAttemptMs - this.#startedMs + nowMs - this.#lastAttemptMs) / 1000);
    for (const [index, { from, to, reason }] of this.#fallbacks.entries()) {
      const isAnswered = failure === undefined && index === this.#fallbacks.length - 1;
      const fallback = cells.fallbacks.at([from, to, reason, isAnswered]);
      if (fallback !== undefined) fallback.count += 1;
    }
    cells.inFlight -= 1;
  }

  #ended(target: Target, { outcome, usage, cost, tookMs, firstOutputMs }: EndedAttempt): void {
    this.#attemptsUnderWay -= 1;
    this.#lastAttemptMs = this.#clock.monotonicMs();
    const cell = this.#cells.attemptCell([this.#owner, target, this.#model, outcome ?? "ok"]);
    cell.count += 1;
    cell.durations.observe(tookMs / 1000);
    // A whole answer's first output is its last.
    if (this.#isStream && firstOutputMs !== undefined) cell.firstOutputs.observe(firstOutputMs / 1000);
    if (usage === undefined) return;
    cell.inputTokens += usage.inputTokens;
    cell.outputTokens += usage.outputTokens;
    cell.cacheReadTokens += usage.cacheReadInputTokens;
    cell.cacheWriteTokens += usage.cacheWriteInputTokens;
    cell.reasoningTokens += usage.reasoningOutputTokens;
    cell.costNanos += Number(cost);
    if (outcome === undefined && usage.outputTokens > 0) cell.perToken.observe(tookMs / 1000 / usage.outputTokens);
  }
}

interface EndedAttempt {
  readonly outcome: ErrorCode | undefined;
  readonly usage: Usage | undefined;
  readonly cost: Nanos;
  readonly tookMs: number;
  readonly firstOutputMs: number | undefined;
}

/** Measures one attempt at a provider. */
export class AttemptMeter {
  readonly #clock: Clock;
  readonly #onEnd: (attempt: EndedAttempt) => void;
  readonly #startedMs: number;
  #firstOutputMs: number | undefined;

  constructor(clock: Clock, onEnd: (attempt: EndedAttempt) => void) {
    this.#clock = clock;
    this.#onEnd = onEnd;
    this.#startedMs = clock.monotonicMs();
  }

  /** The first output has come. @returns after how many milliseconds. */
  firstOutput(): number {
    this.#firstOutputMs = this.#clock.monotonicMs() - this.#startedMs;
    return this.#firstOutputMs;
  }

  end(result: {
    readonly usage: Usage | undefined;
    readonly cost: Nanos;
    readonly error: ErrorCode | undefined;
  }): void {
    const { usage, cost, error: outcome } = result;
    const tookMs = this.#clock.monotonicMs() - this.#startedMs;
    this.#onEnd({ outcome, usage, cost, tookMs, firstOutputMs: this.#firstOutputMs });
  }
}
