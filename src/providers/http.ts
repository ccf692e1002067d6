import { Agent, type Dispatcher, errors } from "undici";
import type { Clock } from "../clock.ts";
import { ProviderFailure } from "../errors.ts";
import { guardedLookup } from "./guarded-lookup.ts";

/** Of an error answer, this much is read, for so long. */
const errorBodyBytesMax = 64 * 1024;
const errorBodyTimeoutMs = 5_000;
/** How long an answer's connection may take to end it after its last word; then it is closed instead of kept. */
const lingerMs = 1_000;
/** undici's time limits are looked at in steps of this length, and may act one step early. */
const stepMs = 500;

/** One request to a provider. */
export interface ProviderRequest {
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  readonly signal: AbortSignal;
  /** Until the answer's head, in milliseconds. */
  readonly headTimeoutMs: number;
  /** Between two reads of its body, in milliseconds. */
  readonly idleTimeoutMs: number;
}

/** An answer's headers, names in lower case. */
export type AnswerHeaders = Readonly<Record<string, string | string[] | undefined>>;

type Body = Dispatcher.ResponseData["body"];

/** HTTP to providers: kept connections, coarse time limits, failures in our words. Follows no redirects, knows no proxies. */
export class ProviderHttp {
  readonly #clock: Clock;
  readonly #agent: Agent;

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock;
    this.#agent = new Agent({
      // As many sockets as calls: a completion holds its socket for seconds, so pipelining would queue calls behind it.
      pipelining: 1,
      connections: 512,
      connect: { timeout: 10_000, noDelay: true, lookup: guardedLookup },
      keepAliveTimeout: 30_000,
    });
  }

  /** Posts a body, as `send` does. */
  post(request: ProviderRequest): Promise<ProviderAnswer> {
    return this.send("POST", request);
  }

  /**
   * Sends a request and waits for the answer's head.
   *
   * @throws ProviderFailure when none came.
   */
  async send(method: "GET" | "POST" | "PUT", request: ProviderRequest): Promise<ProviderAnswer> {
    const { url, headers, body, signal } = request;
    try {
      const answer = await this.#agent.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method,
        headers,
        body: body.length === 0 ? null : body,
        signal,
        headersTimeout: request.headTimeoutMs + stepMs,
        bodyTimeout: request.idleTimeoutMs + stepMs,
      });
      return new ProviderAnswer({
        status: answer.statusCode,
        headers: answer.headers,
        body: answer.body,
        clock: this.#clock,
        signal,
      });
    } catch (thrown) {
      throw failureOfTransport(thrown, "head", signal);
    }
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

/** The head of a provider's answer, and its body to be read once. Whoever does not read it to its end must `drop` it. */
export class ProviderAnswer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly #body: Body;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;

  constructor(parts: { status: number; headers: AnswerHeaders; body: Body; clock: Clock; signal: AbortSignal }) {
    this.status = parts.status;
    this.headers = parts.headers;
    this.#body = parts.body;
    this.#clock = parts.clock;
    this.#signal = parts.signal;
    // A body that is dropped unread emits an error nobody waits for; without a listener that would end the process.
    this.#body.on("error", ignore);
  }

  /**
   * Reads the whole body.
   *
   * @throws ProviderFailure when it breaks off, is not whole within `timeoutMs` milliseconds, or is larger than `bytesMax`.
   */
  async read(bytesMax: number, timeoutMs: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let size = 0;
    const cancel = this.#clock.after(timeoutMs, () => this.#body.destroy(new errors.BodyTimeoutError()));
    try {
      for await (const piece of this.#body) {
        pieces.push(piece);
        size += piece.length;
        if (size > bytesMax) throw tooLarge();
      }
    } catch (thrown) {
      throw failureOfTransport(thrown, "body", this.#signal);
    } finally {
      cancel();
    }
    return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces, size);
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
   * @returns a function that gives the next piece, undefined at the end. It throws ProviderFailure when the body breaks off.
   */
  pieces(): () => Promise<Buffer | undefined> {
    const iterator: AsyncIterator<Buffer> = this.#body[Symbol.asyncIterator]();
    return async () => {
      try {
        const next = await iterator.next();
        return next.done === true ? undefined : next.value;
      } catch (thrown) {
        throw failureOfTransport(thrown, "body", this.#signal);
      }
    };
  }

  /**
   * The answer's last word has been read. Usually the end of the body is right behind it, and then the connection can be used
   * again; a provider that goes on, or holds the connection open, is cut off.
   */
  finish(nextPiece: () => Promise<Buffer | undefined>): void {
    const cancel = this.#clock.after(lingerMs, () => this.drop());
    nextPiece()
      .then((piece) => piece === undefined || this.drop(), ignore)
      .finally(cancel);
  }

  /** Cuts the connection unless the body is at its end, so that the provider stops generating. */
  drop(): void {
    this.#body.destroy();
  }
}

function ignore(): void {}

function tooLarge(): ProviderFailure {
  return new ProviderFailure("provider_error", "The provider's answer is larger than the gateway takes.", {
    billable: true,
  });
}

/**
 * What undici throws, in our words.
 *
 * @param part whether the answer's head or its body was awaited. A provider that was cut off while answering may charge.
 */
function failureOfTransport(thrown: unknown, part: "head" | "body", signal: AbortSignal): ProviderFailure {
  if (thrown instanceof ProviderFailure) return thrown;
  if (thrown instanceof errors.HeadersTimeoutError || thrown instanceof errors.BodyTimeoutError) {
    return new ProviderFailure("provider_timeout", "The provider did not answer in time.", {
      billable: true,
      cause: thrown,
    });
  }
  if (part === "body") {
    return new ProviderFailure("stream_interrupted", "The provider broke off before the answer was whole.", {
      billable: true,
      cause: thrown,
    });
  }
  // A call we gave up ourselves may be under way at the provider; one whose connection failed without an answer is not charged.
  return new ProviderFailure("provider_unavailable", "The provider could not be reached.", {
    billable: signal.aborted,
    cause: thrown,
  });
}
