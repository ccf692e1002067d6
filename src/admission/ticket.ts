import type { Clock } from "../clock.ts";
import type { Caller, CompletionRequest, LimitState, Usage } from "../completion.ts";
import type { CountedTokens, Deployment, Price } from "../config/config.ts";
import type { Limit, Payer, SpendRecord, SpendStatus } from "../keys/authority.ts";
import type { Journal } from "../keys/journal.ts";
import type { OpenAttempt, OpenRecord } from "../keys/journal-line.ts";
import type { Reservation } from "../keys/lease.ts";
import type { Nanos } from "../money.ts";
import { costOf, priceAt } from "../spend/cost.ts";
import { billedUsage, countTokens, estimatedUsage } from "./estimate.ts";
import type { LimitHold } from "./limits.ts";
import type { Option } from "./option.ts";
import type { FreePlace, Place } from "./place.ts";

/** What a call may do in one group of deployments. */
export interface Leg {
  readonly payer: Payer;
  /** As it is sent there. */
  readonly request: CompletionRequest;
  readonly modelGroup: string;
  /** The output cap chosen for the call; undefined: the caller chose, or nothing depends on it. */
  readonly outputTokensMax: number | undefined;
  /** What an attempt may use, as limits count it. */
  readonly tokens: number;
  /** Pays for another attempt at a place; or at the next of the options, where budgets of a deployment or provider have no room. */
  readonly payAt: (free: FreePlace, options: readonly Option[]) => Promise<Place>;
}

interface TicketParts {
  readonly leg: Leg;
  /** Of the call and its key. */
  readonly tags: readonly string[];
  readonly caller: Caller;
  readonly callId: string;
  readonly traceId: string;
  readonly hold: LimitHold;
  /** Where the first attempt is made, paid for. */
  readonly place: Place;
  /** Unix time, milliseconds: the prices of this moment apply to the whole call, as they did to its reservation. */
  readonly pricedAtMs: number;
  /** What limits on tokens count. */
  readonly counted: CountedTokens;
  readonly journal: Journal;
  readonly clock: Clock;
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

/** What the books want to know of a deployment. */
type AnsweringDeployment = Pick<Deployment, "id" | "model" | "provider" | "price">;

const nothingReserved = { leaseId: "", amount: 0n } as const;

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
  readonly #holds: LimitHold[];
  #leg: Leg;
  /** Taken, and no attempt begun with it yet. */
  #place: Place | undefined;
  #limitsTaken: readonly Limit[];
  #tokensUsed = 0;
  #isAnswered = false;
  #closed = false;

  constructor(parts: TicketParts) {
    this.#parts = parts;
    this.#holds = [parts.hold];
    this.#leg = parts.leg;
    this.#limitsTaken = parts.leg.payer.limits;
    this.#place = parts.place;
  }

  get leg(): Leg {
    return this.#leg;
  }

  get pricedAtMs(): number {
    return this.#parts.pricedAtMs;
  }

  /** Limits it has a share of. */
  get limitsTaken(): readonly Limit[] {
    return this.#limitsTaken;
  }

  get limits(): readonly LimitState[] {
    const [first, ...others] = this.#holds;
    return others.length === 0 ? (first?.limits ?? []) : this.#holds.flatMap((hold) => hold.limits);
  }

  /** Whether it has a place that no attempt was begun at. */
  get hasPlace(): boolean {
    return this.#place !== undefined;
  }

  /** The place that came with the last admission; undefined once it was asked for. */
  takePlace(): Place | undefined {
    const place = this.#place;
    this.#place = undefined;
    return place;
  }

  /** The output cap to send to a deployment in place of the caller's; undefined: the caller's own, if any. */
  outputTokensMaxAt(deployment: Deployment): number | undefined {
    const { outputTokensMax } = this.#leg;
    return outputTokensMax === undefined ? undefined : Math.min(outputTokensMax, deployment.outputTokensMax);
  }

  /** The call goes on in another group: with a place there, and with shares of the limits that hold only there. */
  move(leg: Leg, hold: LimitHold, place: Place): void {
    this.#giveBackUnused();
    this.#leg = leg;
    this.#limitsTaken = [...new Set([...this.#limitsTaken, ...leg.payer.limits])];
    this.#holds.push(hold);
    this.#place = place;
  }

  /**
   * Begins an attempt: from here on a crash finds it in the journal. If it throws, the place is given back.
   *
   * @throws GatewayError journal_unavailable: it cannot be recorded, so it must not be made; the reason of the caller's signal, if it has aborted: what is not begun costs nothing.
   */
  begin(number: number, place: Place): Spending {
    const { journal, clock, caller } = this.#parts;
    const { request } = this.#leg;
    const { payer, reservation } = place.paid;
    try {
      caller.signal.throwIfAborted();
      const { deployment } = place;
      const record = this.#openRecord(number, deployment, payer, reservation);
      const open = journal.appendOpen(record);
      const price = deployment.price && priceAt(deployment.price, this.#parts.pricedAtMs);
      return new Spending({ ticket: this, place, reservation, record, open, price, request, journal, clock });
    } catch (thrown) {
      reservation.release();
      place.end(0);
      throw thrown;
    }
  }

  /** An attempt was booked. */
  spent(usage: Usage, isAnswered: boolean): void {
    this.#isAnswered ||= isAnswered;
    this.#tokensUsed += countTokens(usage, this.#parts.counted);
  }

  /** The answer was given before: it costs nothing, neither money nor tokens, and no attempt is made for it. */
  giveAgain(again: {
    readonly deployment: AnsweringDeployment;
    readonly usage: Usage;
    readonly status: SpendStatus;
    readonly startedAtMs: number;
  }): void {
    const { deployment, usage, status, startedAtMs } = again;
    this.#giveBackUnused();
    const record = { ...this.#openRecord(1, deployment, this.#leg.payer, nothingReserved), startedAtMs };
    const result = { status, responseId: undefined, firstOutputAtMs: startedAtMs };
    const settled = settledRecord(record, result, usage, 0n, this.#parts.clock.nowMs());
    this.#parts.journal.appendSettled({ ...settled, cacheHit: true }, undefined);
    this.#isAnswered = status === "success";
  }

  /** Gives back what is left. Acts once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#giveBackUnused();
    for (const hold of this.#holds) void hold.end(this.#tokensUsed, this.#isAnswered);
  }

  #giveBackUnused(): void {
    this.takePlace()?.giveBack();
  }

  #openRecord(
    number: number,
    deployment: AnsweringDeployment,
    payer: Payer,
    reservation: Pick<Reservation, "leaseId" | "amount">,
  ): OpenRecord {
    const { tags, callId, traceId, clock } = this.#parts;
    const { request, modelGroup } = this.#leg;
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
      startedAtMs: clock.nowMs(),
      priceVersion: deployment.price?.version ?? "unpriced",
      endUser: request.endUser?.slice(0, nameCharsMax) ?? "",
      tags,
      traceId,
      operation: request.operation,
      budgetIds: payer.extraBudgetIds,
    };
  }
}

interface SpendingParts {
  readonly ticket: Ticket;
  readonly place: Place;
  readonly reservation: Reservation;
  readonly record: OpenRecord;
  /** As the journal has it. */
  readonly open: OpenAttempt;
  readonly price: Price | undefined;
  readonly request: CompletionRequest;
  readonly journal: Journal;
  readonly clock: Clock;
}

/** One attempt's money and its place, from when it began until it is booked. */
export class Spending {
  readonly #parts: SpendingParts;

  constructor(parts: SpendingParts) {
    this.#parts = parts;
  }

  get place(): Place {
    return this.#parts.place;
  }

  get limits(): readonly LimitState[] {
    return this.#parts.ticket.limits;
  }

  /** Books the attempt, once: in the journal first, so that it is on disk before the answer's last byte leaves. */
  settle(result: AttemptResult): Booked {
    const { ticket, place, reservation, record, open, price, request, journal, clock } = this.#parts;
    const usage = result.billable ? (result.usage ?? estimatedUsage(request, result.outputTokens)) : nothing;
    const exact = price && result.billable ? costOf(billedUsage(usage, request), price) : 0n;
    // A guess must not break a promise: what we estimate ourselves never exceeds what was reserved.
    const isCapped = usage.estimated && reservation.isLimited && exact > reservation.amount;
    const cost = isCapped ? reservation.amount : exact;
    const tokens = usage.inputTokens + usage.outputTokens;
    try {
      journal.appendSettled(settledRecord(record, result, usage, cost, clock.nowMs()), open);
      reservation.settle(cost);
      ticket.spent(usage, result.status === "success");
    } finally {
      place.end(tokens);
    }
    return { usage, cost };
  }
}

function settledRecord(
  open: OpenRecord,
  result: Pick<AttemptResult, "status" | "responseId" | "firstOutputAtMs">,
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
    cacheHit: false,
  };
}
