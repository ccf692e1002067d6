import type { Clock } from "../clock.ts";
import type { Caller, CompletionRequest, LimitState, Usage } from "../completion.ts";
import type { Deployment, Price } from "../config/config.ts";
import type { Payer, SpendRecord, SpendStatus } from "../keys/authority.ts";
import type { Journal } from "../keys/journal.ts";
import type { OpenRecord } from "../keys/journal-line.ts";
import type { Reservation } from "../keys/lease.ts";
import type { Nanos } from "../money.ts";
import { costOf, priceAt } from "../spend/cost.ts";
import { billedUsage, estimatedUsage } from "./estimate.ts";
import type { LimitHold } from "./limits.ts";

interface TicketParts {
  readonly payer: Payer;
  /** Of the call and its key. */
  readonly tags: readonly string[];
  readonly request: CompletionRequest;
  readonly caller: Caller;
  readonly callId: string;
  readonly modelGroup: string;
  readonly traceId: string;
  readonly hold: LimitHold;
  readonly reservation: Reservation;
  /** The output cap chosen for the call; undefined: the caller chose, or nothing depends on it. */
  readonly outputTokensMax: number | undefined;
  /** Unix time, milliseconds: the prices of this moment apply to the whole call, as they did to its reservation. */
  readonly pricedAtMs: number;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly reserveAgain: () => Promise<Reservation>;
}

/** What an attempt used, as far as anybody knows. */
export interface AttemptResult {
  readonly status: SpendStatus;
  /** As the provider reported it; undefined: estimated from what came. */
  readonly usage: Usage | undefined;
  /** What came, in tokens, roughly. */
  readonly outputTokens: number;
  /** Whether the provider may charge for it. If not, it costs nothing. */
  readonly billable: boolean;
  readonly responseId: string | undefined;
  readonly firstOutputAtMs: number | undefined;
}

/** What is booked for an attempt. */
export interface Booked {
  readonly usage: Usage;
  readonly cost: Nanos;
}

/** Names that callers and providers choose are cut to this length, so that they do not fill the journal. */
const nameCharsMax = 256;

const nothing: Usage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadInputTokens: 0,
  cacheWriteInputTokens: 0,
  reasoningOutputTokens: 0,
  estimated: false,
};

/** One admitted call: its share of the limits, and the money its attempts are paid from. */
export class Ticket {
  readonly #parts: TicketParts;
  #reservation: Reservation | undefined;
  #open: { record: OpenRecord; price: Price | undefined } | undefined;
  #tokensUsed = 0;
  #isAnswered = false;
  #closed = false;

  constructor(parts: TicketParts) {
    this.#parts = parts;
    this.#reservation = parts.reservation;
  }

  get limits(): readonly LimitState[] {
    return this.#parts.hold.limits;
  }

  /** The output cap to send to a deployment in place of the caller's; undefined: the caller's own, if any. */
  outputTokensMaxAt(deployment: Deployment): number | undefined {
    const { outputTokensMax } = this.#parts;
    return outputTokensMax === undefined ? undefined : Math.min(outputTokensMax, deployment.outputTokensMax);
  }

  /**
   * Begins an attempt: from here on a crash finds it in the journal.
   *
   * @throws GatewayError journal_unavailable: it cannot be recorded, so it must not be made; budget_exceeded when an earlier
   * attempt used the money up; the reason of the caller's signal, if it has aborted: what is not begun costs nothing.
   */
  async begin(number: number, deployment: Deployment): Promise<void> {
    const reservation = this.#reservation ?? (await this.#parts.reserveAgain());
    this.#reservation = reservation;
    this.#parts.caller.signal.throwIfAborted();
    const price = deployment.price && priceAt(deployment.price, this.#parts.pricedAtMs);
    const record = this.#openRecord(number, deployment, reservation);
    this.#parts.journal.appendOpen(record);
    this.#open = { record, price };
  }

  /**
   * Books the attempt that was begun: in the journal first, so that it is on disk before the answer's last byte leaves.
   */
  settle(result: AttemptResult): Booked {
    const open = this.#open;
    const reservation = this.#reservation;
    if (open === undefined || reservation === undefined) throw new Error("settled an attempt that was not begun");
    const usage = result.billable
      ? (result.usage ?? estimatedUsage(this.#parts.request, result.outputTokens))
      : nothing;
    const { price } = open;
    const exact = price && result.billable ? costOf(billedUsage(usage, this.#parts.request), price) : 0n;
    // A guess must not break a promise: what we estimate ourselves never exceeds what was reserved.
    const isCapped = usage.estimated && reservation.isLimited && exact > reservation.amount;
    const cost = isCapped ? reservation.amount : exact;
    this.#open = undefined;
    this.#reservation = undefined;
    this.#parts.journal.appendSettled(settledRecord(open.record, result, usage, cost, this.#parts.clock.nowMs()));
    reservation.settle(cost);
    this.#isAnswered = result.status === "success";
    this.#tokensUsed += usage.inputTokens + usage.outputTokens;
    return { usage, cost };
  }

  /** Gives back what is left. Acts once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reservation?.release();
    void this.#parts.hold.end(this.#tokensUsed, this.#isAnswered);
  }

  #openRecord(number: number, deployment: Deployment, reservation: Reservation): OpenRecord {
    const { payer, tags, request, callId, modelGroup, traceId } = this.#parts;
    return {
      callId,
      attempt: number,
      keyId: payer.keyId,
      leaseId: reservation.leaseId,
      reserved: reservation.amount,
      modelGroup,
      model: deployment.model,
      provider: deployment.provider,
      deploymentId: deployment.id,
      startedAtMs: this.#parts.clock.nowMs(),
      priceVersion: deployment.price?.version ?? "unpriced",
      endUser: request.endUser?.slice(0, nameCharsMax) ?? "",
      tags,
      traceId,
      operation: request.operation,
      budgetIds: payer.extraBudgetIds,
    };
  }
}

function settledRecord(
  open: OpenRecord,
  result: AttemptResult,
  usage: Usage,
  cost: Nanos,
  endedAtMs: number,
): SpendRecord {
  const { inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens, reasoningOutputTokens } = usage;
  return {
    ...open,
    cost,
    status: result.status,
    usageEstimated: usage.estimated,
    ...{ inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens, reasoningOutputTokens },
    endedAtMs,
    firstOutputAtMs: result.firstOutputAtMs,
    providerResponseId: result.responseId?.slice(0, nameCharsMax) ?? "",
  };
}
