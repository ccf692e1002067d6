import { type Dispatcher, errors } from "undici";
import type { Clock } from "../clock.ts";
import { ProviderFailure } from "../errors.ts";

/** Of an error answer, this much is read, for so long. */
const errorBodyBytesMax = 64 * 1024;
const errorBodyTimeoutMs = 5_000;
/** How long an answer's connection may take to end it after its last word; then it is closed instead of kept. */
const lingerMs = 1_000;
/** With so much of a body waiting to be asked for, its connection is not read on. */
const waitingBytesMax = 64 * 1024;

/** An answer's headers, names in lower case. */
export type AnswerHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** Takes what has come of a body. @returns a promise where nothing more should come before it is resolved. */
type TakePiece = (piece: Buffer) => Promise<unknown> | undefined;

/** A body that is taken as it comes. */
interface Flow {
  readonly take: TakePiece;
  /** Says after each piece whether it was the last that is wanted. */
  readonly reader: { readonly over: boolean };
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  readonly goOn: () => void;
  /** Will go on by itself: at the end of a read, or when its taker has caught up. */
  isDue: boolean;
}

/** What waits for it has its turn once all that one read has brought is there. */
const endOfRead = Promise.resolve();

interface Waiting<Value> {
  resolve(value: Value): void;
  reject(failure: ProviderFailure): void;
}

/**
 * A provider's answer as undici dispatches it: its head, and its body to be read once. Whoever does not read that to its end must `drop`
 * it. No stream and no iterator lie between: on the way of every call they cost as much as all of undici.
 */
export class ProviderAnswer implements Dispatcher.DispatchHandler {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onAborted = () => this.#cut(asError(this.#signal.reason));
  #awaitingHead: Waiting<ProviderAnswer> | undefined;
  #awaitingPiece: Waiting<Buffer | undefined> | undefined;
  #flow: Flow | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  /** Come, and not asked for yet. */
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  /** Whether the body is over, by its end or by a failure. */
  #isOver = false;
  #failure: ProviderFailure | undefined;
  #status = 0;
  #headers: AnswerHeaders = {};

  /** @param parts.signal the call's; once it aborts, the connection is cut. */
  constructor(parts: { clock: Clock; signal: AbortSignal }) {
    this.#clock = parts.clock;
    this.#signal = parts.signal;
  }

  get status(): number {
    return this.#status;
  }

  get headers(): AnswerHeaders {
    return this.#headers;
  }

  /**
   * Sends the request whose answer this is, and waits for its head.
   *
   * @throws ProviderFailure when none comes.
   */
  head(dispatch: (handler: Dispatcher.DispatchHandler) => void): Promise<ProviderAnswer> {
    return new Promise((resolve, reject) => {
      this.#awaitingHead = { resolve, reject };
      if (this.#signal.aborted) return this.#onAborted();
      this.#signal.addEventListener("abort", this.#onAborted);
      dispatch(this);
    });
  }

  /**
   * Reads the whole body.
   *
   * @throws ProviderFailure when it breaks off, is not whole within `timeoutMs` milliseconds, or is larger than `bytesMax`.
   */
  async read(bytesMax: number, timeoutMs: number): Promise<Buffer> {
    // A short answer is there with its head.
    if (!this.#isOver) await this.#gather(bytesMax, timeoutMs);
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#waitingBytes > bytesMax) throw tooLarge();
    const [first] = this.#waiting;
    return this.#waiting.length === 1 && first !== undefined ? first : Buffer.concat(this.#waiting, this.#waitingBytes);
  }

  async #gather(bytesMax: number, timeoutMs: number): Promise<void> {
    const cancel = this.#clock.after(timeoutMs, () => this.#cut(new errors.BodyTimeoutError()));
    const pieces: Buffer[] = [];
    let bytes = 0;
    try {
      for (let piece = await this.next(); piece !== undefined; piece = await this.next()) {
        pieces.push(piece);
        bytes += piece.length;
        if (bytes > bytesMax) {
          this.drop();
          throw tooLarge();
        }
      }
    } finally {
      cancel();
    }
    this.#waiting = pieces;
    this.#waitingBytes = bytes;
  }

  /** Reads what an error answer says, within bounds. One that is too long, too slow or breaks off has said nothing. */
  async readError(): Promise<string> {
    try {
      return (await this.read(errorBodyBytesMax, errorBodyTimeoutMs)).toString();
    } catch {
      // The status alone has to do.
      return "";
    }
  }

  /**
   * Reads the body piece by piece. Stop asking to stop reading; then `drop` or `finish` it.
   *
   * @returns what has come, undefined at the end.
   * @throws ProviderFailure when the body breaks off.
   */
  next(): Promise<Buffer | undefined> {
    const piece = this.#take();
    if (piece !== undefined) return Promise.resolve(piece);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#isOver) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.#awaitingPiece = { resolve, reject };
      this.#controller?.resume();
    });
  }

  /**
   * Gives what comes of the body to `take`, without a promise for each piece, until it is over or its reader wants no more; then `drop` or
   * `finish` it.
   *
   * @param reader looked at after each piece.
   * @throws ProviderFailure (as a rejection) when the body breaks off, once what came before is taken; and what `take` throws.
   */
  flow(take: TakePiece, reader: { readonly over: boolean }): Promise<void> {
    return new Promise((resolve, reject) => {
      const flow: Flow = { take, reader, resolve, reject, goOn: () => this.#goOn(flow), isDue: false };
      this.#flow = flow;
      this.#goOn(flow);
    });
  }

  #goOn(flow: Flow): void {
    // It may have stopped since this was due.
    if (this.#flow !== flow) return;
    flow.isDue = false;
    const piece = this.#take();
    let full: Promise<unknown> | undefined;
    try {
      full = piece && flow.take(piece);
    } catch (error) {
      this.#stop(flow, error);
      return;
    }
    if (flow.reader.over) this.#stop(flow, undefined);
    else if (full !== undefined) {
      flow.isDue = true;
      full.then(flow.goOn, (error) => this.#stop(flow, error));
    } else if (this.#isOver) this.#stop(flow, this.#failure);
    else this.#controller?.resume();
  }

  #stop(flow: Flow, failure: unknown): void {
    this.#flow = undefined;
    if (failure === undefined) flow.resolve();
    else flow.reject(failure);
  }

  /** At the end of the read: all that it brought is taken at once. */
  #goOnSoon(flow: Flow): void {
    if (flow.isDue) return;
    flow.isDue = true;
    // `queueMicrotask` would make an asynchronous resource of each.
    void endOfRead.then(flow.goOn);
  }

  /**
   * The answer's last word has been read. Usually the end of the body is right behind it, and then the connection can be used
   * again; a provider that goes on, or holds the connection open, is cut off.
   */
  finish(): void {
    if (this.#isOver) return;
    const cancel = this.#clock.after(lingerMs, () => this.drop());
    this.next()
      .then(
        (piece) => piece === undefined || this.drop(),
        () => {},
      )
      .finally(cancel);
  }

  /** Cuts the connection unless the body is at its end, so that the provider stops generating. */
  drop(): void {
    if (!this.#isOver) this.#cut(new errors.RequestAbortedError());
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // Given up while it waited for a connection.
    if (this.#isOver) controller.abort(this.#failure ?? new errors.RequestAbortedError());
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: AnswerHeaders): void {
    // Whatever a provider says before its answer is not the answer.
    if (status < 200) return;
    this.#status = status;
    this.#headers = headers;
    this.#awaitingHead?.resolve(this);
    this.#awaitingHead = undefined;
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Buffer): void {
    if (this.#isOver) return;
    if (this.#awaitingPiece !== undefined) {
      this.#awaitingPiece.resolve(piece);
      this.#awaitingPiece = undefined;
      return;
    }
    this.#waiting.push(piece);
    this.#waitingBytes += piece.length;
    if (this.#flow !== undefined) this.#goOnSoon(this.#flow);
    if (this.#waitingBytes > waitingBytesMax) controller.pause();
  }

  onResponseEnd(): void {
    this.#end(undefined);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#end(error);
  }

  /** All that has come, in one piece: what one read brought is passed on in one write. */
  #take(): Buffer | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const all = this.#waiting.length === 1 ? first : Buffer.concat(this.#waiting, this.#waitingBytes);
    this.#waiting = [];
    this.#waitingBytes = 0;
    return all;
  }

  #cut(reason: Error): void {
    this.#end(reason);
    this.#controller?.abort(reason);
  }

  /** Acts once. */
  #end(error: Error | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#signal.removeEventListener("abort", this.#onAborted);
    if (error !== undefined) {
      // What had come of an answer that broke off is not the answer.
      this.#failure = failureOfTransport(error, this.#awaitingHead === undefined ? "body" : "head", this.#signal);
      this.#awaitingHead?.reject(this.#failure);
      this.#awaitingPiece?.reject(this.#failure);
    } else {
      this.#awaitingPiece?.resolve(undefined);
    }
    this.#awaitingHead = undefined;
    this.#awaitingPiece = undefined;
    if (this.#flow !== undefined) this.#goOnSoon(this.#flow);
  }
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new errors.RequestAbortedError();
}

function tooLarge(): ProviderFailure {
  return new ProviderFailure("provider_error", "The provider's answer is larger than the gateway takes.", {
    billable: true,
  });
}

/**
 * What undici says, in our words.
 *
 * @param part whether the answer's head or its body was awaited. A provider that was cut off while answering may charge.
 */
function failureOfTransport(error: Error, part: "head" | "body", signal: AbortSignal): ProviderFailure {
  if (error instanceof ProviderFailure) return error;
  if (error instanceof errors.HeadersTimeoutError || error instanceof errors.BodyTimeoutError) {
    return new ProviderFailure("provider_timeout", "The provider did not answer in time.", {
      billable: true,
      cause: error,
    });
  }
  if (part === "body") {
    return new ProviderFailure("stream_interrupted", "The provider broke off before the answer was whole.", {
      billable: true,
      cause: error,
    });
  }
  // A call we gave up ourselves may be under way at the provider; one whose connection failed without an answer is not charged.
  return new ProviderFailure("provider_unavailable", "The provider could not be reached.", {
    billable: signal.aborted,
    cause: error,
  });
}
