import type { Clock } from "../clock.ts";
import type { CompletionEvent, EventSink, Json, OutputEvent } from "../completion.ts";
import { type GatewayError, ProviderFailure } from "../errors.ts";
import { dropOrRefuse, unsupported } from "../wires/chat-params.ts";
import { parseJson } from "../wires/json.ts";
import { type FailureHints, failureOfAnswer } from "./failures.ts";
import type { ProviderHttp } from "./http.ts";
import type { Provider, ProviderCall, StoredCall } from "./provider.ts";
import type { AnswerHeaders, ProviderAnswer } from "./provider-answer.ts";

const anyType = "*/*";
/** The largest unary answer we hold. */
const answerBytesMax = 64 * 1024 * 1024;

/** Reads a streamed answer, however the network cut it. */
export interface AnswerReader {
  /** Whether nothing more is wanted of the body: it has ended by its own word, or it is broken. */
  readonly over: boolean;
  /** Why the answer is not whole. What came before it has been given out. */
  readonly failure: GatewayError | undefined;
  /** Takes what one read brought. */
  push(chunk: Buffer): readonly OutputEvent[];
  /** The body is over. @returns the last events, ending with `end` unless there is a `failure`. */
  end(): readonly CompletionEvent[];
}

/** What is posted. Headers are built anew for each call: nothing of the caller's passes but what is listed. */
export interface Question {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** What the body is. Absent: JSON. */
  readonly mediaType?: string;
}

/** How many tokens an input has. */
export interface CountQuestion {
  readonly question: Question;
  /** What the answer says. */
  readonly countIn: (body: Json) => number | undefined;
  /** Whether there are models that it is not answered for: a refusal then says nothing of the input. */
  readonly mayBeUnable?: true;
}

/** How an answer is read. */
export type Manner = "whole" | "stream";

/** How a provider is asked over HTTP, and how its answers are read. */
export interface Dialect {
  /** The content type of its streams. */
  readonly streamType: string;
  /** @throws ProviderFailure for what the provider cannot be asked. */
  ask(call: ProviderCall): Question | Promise<Question>;
  /** Asks how many tokens the input has; absent, or undefined: this provider cannot be asked. */
  askCount?(call: ProviderCall): CountQuestion | undefined | Promise<CountQuestion | undefined>;
  /** How an answer is read that need be neither JSON nor of `streamType`. Absent, or undefined: as any other. */
  mannerOf?(call: ProviderCall, mediaType: string): Manner | undefined;
  /** Asks about an answer that is kept; absent: none are. */
  askStored?(call: StoredCall): Promise<Question>;
  reader(call: ProviderCall, headers: AnswerHeaders): AnswerReader;
  /**
   * Reads a unary answer with status 200.
   *
   * @throws GatewayError if it is no completion.
   */
  whole(call: ProviderCall, body: Buffer, headers: AnswerHeaders): readonly CompletionEvent[];
  /** What an error answer says in the provider's own words. */
  hints?(status: number, headers: AnswerHeaders, said: string): FailureHints;
}

/** A provider that answers each call by one HTTP response, whole or as a stream. */
export class HttpProvider implements Provider {
  readonly #http: ProviderHttp;
  readonly #clock: Clock;
  readonly #dialect: Dialect;

  constructor(parts: { http: ProviderHttp; clock: Clock; dialect: Dialect }) {
    this.#http = parts.http;
    this.#clock = parts.clock;
    this.#dialect = parts.dialect;
  }

  async *complete(call: ProviderCall): AsyncGenerator<CompletionEvent, void, undefined> {
    const startedMs = this.#clock.monotonicMs();
    const { answer, manner } = await this.#ask(call);
    if (manner === "whole") {
      const leftMs = Math.max(0, call.timeoutMs - (this.#clock.monotonicMs() - startedMs));
      const body = await answer.read(answerBytesMax, leftMs);
      for (const event of this.#dialect.whole(call, body, answer.headers)) yield event;
      return;
    }
    const reader = this.#dialect.reader(call, answer.headers);
    let isWhole = false;
    try {
      const { sink } = call;
      for (let piece = await answer.next(); piece !== undefined; piece = await answer.next()) {
        const events = reader.push(piece);
        // Here and not in a generator of its own, which would make two promises more for each event.
        for (const event of events) yield event;
        // Not read on: a provider may hold the connection open after its last word.
        if (reader.over) break;
        if (sink === undefined || events.length === 0) continue;
        await answer.flow((next) => pour(reader.push(next), sink), reader);
        break;
      }
      const last = reader.end();
      // Told before the events are out: whoever has the last of them does not come back.
      isWhole = reader.failure === undefined;
      if (isWhole) answer.finish();
      for (const event of last) yield event;
      if (reader.failure !== undefined) throw reader.failure;
    } finally {
      // A reader that went away cuts the upstream connection, so that the provider stops generating.
      if (!isWhole) answer.drop();
    }
  }

  /** Sends the request. @returns its answer, once it has begun well. */
  async #ask(call: ProviderCall): Promise<{ readonly answer: ProviderAnswer; readonly manner: Manner }> {
    const dialect = this.#dialect;
    const question = await asked(dialect, call);
    const answer = await this.#http.post({
      url: question.url,
      privateHosts: call.deployment.privateHosts,
      headers: headersFor(call, dialect, question),
      body: question.body,
      signal: call.signal,
      headTimeoutMs: call.timeoutMs,
      idleTimeoutMs: call.idleTimeoutMs,
    });
    if (answer.status !== 200) {
      const { status, headers } = answer;
      const said = await answer.readError();
      throw failureOfAnswer(status, headers, said, this.#clock.nowMs(), dialect.hints?.(status, headers, said));
    }
    const manner = mannerOf(answer, call, dialect);
    if (!(manner instanceof ProviderFailure)) return { answer, manner };
    answer.drop();
    throw manner;
  }

  async countTokens(call: ProviderCall): Promise<number | undefined> {
    const asked = await this.#dialect.askCount?.(call);
    if (asked === undefined) return undefined;
    const { url, body } = asked.question;
    const answer = await this.#http.post({
      ...{ url, body, signal: call.signal, privateHosts: call.deployment.privateHosts },
      headers: headersFor(call, this.#dialect, asked.question),
      headTimeoutMs: call.timeoutMs,
      idleTimeoutMs: call.idleTimeoutMs,
    });
    if (answer.status !== 200) {
      const failure = failureOfAnswer(answer.status, answer.headers, await answer.readError(), this.#clock.nowMs());
      if (asked.mayBeUnable && failure.kind.blame === "caller") return undefined;
      throw failure;
    }
    return asked.countIn(parseJson((await answer.read(answerBytesMax, call.timeoutMs)).toString()) ?? null);
  }

  async stored(call: StoredCall): Promise<Buffer> {
    const { deployment, method, signal } = call;
    const asked = await this.#dialect.askStored?.(call);
    if (asked === undefined)
      throw new ProviderFailure("response_not_found", "This provider keeps no responses.", { billable: false });
    const { url, body } = asked;
    const headers = { ...asked.headers, accept: "application/json", "accept-encoding": "identity" };
    const { timeoutMs, privateHosts } = deployment;
    const limits = { headTimeoutMs: timeoutMs, idleTimeoutMs: timeoutMs };
    const answer = await this.#http.send(method, { url, privateHosts, body, headers, signal, ...limits });
    if (answer.status === 200) return answer.read(answerBytesMax, timeoutMs);
    const said = await answer.readError();
    if (answer.status !== 404) throw failureOfAnswer(answer.status, answer.headers, said, this.#clock.nowMs());
    throw new ProviderFailure("response_not_found", "The provider does not have the response, or not any more.", {
      billable: false,
      cause: new Error(`provider status 404: ${said}`),
    });
  }
}

/** @returns a promise where nothing more should come before it is resolved. */
function pour(events: readonly OutputEvent[], sink: EventSink): Promise<unknown> | undefined {
  let full: Promise<unknown> | undefined;
  for (const event of events) full = sink(event) ?? full;
  return full;
}

/** Whether a call by OpenAI's responses goes on as it came. */
export function passesResponses({ request, deployment }: ProviderCall): boolean {
  return request.wire === "openai-responses" && deployment.speaksResponses === true;
}

/** Refuses what cannot be said in another wire than the caller's, unless it may be left out. */
function refuseUnsayable(call: ProviderCall): void {
  const { request, deployment } = call;
  if (request.unsayable === undefined || passesResponses(call)) return;
  for (const { param, isContent } of request.unsayable()) {
    if (isContent) throw unsupported(param, `Provider "${deployment.provider}" cannot be told \`${param}\`.`);
    dropOrRefuse(param, request.chat(), deployment.params, deployment.provider);
  }
}

/** Whatever a caller's body is nested like, JSON can be read; to be written it must fit the stack. */
function asked(dialect: Dialect, call: ProviderCall): Question | Promise<Question> {
  try {
    refuseUnsayable(call);
    const question = dialect.ask(call);
    return question instanceof Promise ? question.catch(refuseTooDeep) : question;
  } catch (thrown) {
    return refuseTooDeep(thrown);
  }
}

function refuseTooDeep(thrown: unknown): never {
  if (!(thrown instanceof RangeError)) throw thrown;
  const message = "The request is nested too deeply to be written for the provider.";
  throw new ProviderFailure("invalid_request", message, { billable: false, cause: thrown });
}

/** What a provider is sent. The operator's own headers, which dialects add, give way to those that every provider gets. */
function headersFor(call: ProviderCall, dialect: Dialect, question: Question): Record<string, string> {
  const { request, traceparent } = call;
  const accept = request.stream ? dialect.streamType : "application/json";
  const headers: Record<string, string> = {
    ...question.headers,
    "content-type": question.mediaType ?? "application/json",
    accept: dialect.mannerOf?.(call, anyType) === undefined ? accept : anyType,
    // Frames are passed on as they come; decompressing them would be the caller's work twice.
    "accept-encoding": "identity",
  };
  if (traceparent !== undefined) headers.traceparent = traceparent;
  return headers;
}

/**
 * How an answer with status 200 is read by its head, or what is wrong with that. A page of HTML is some proxy's, not the provider's:
 * nothing was generated, nothing is charged. What speaks JSON has had the model at work.
 */
function mannerOf(answer: ProviderAnswer, call: ProviderCall, dialect: Dialect): Manner | ProviderFailure {
  const streamType = call.request.stream ? dialect.streamType : undefined;
  const asAsked = call.request.stream ? "stream" : "whole";
  const type = String(answer.headers["content-type"] ?? "");
  const encoding = String(answer.headers["content-encoding"] ?? "identity");
  const billable = type === "" || type.includes("json") || type.includes(streamType ?? "event-stream");
  if (encoding !== "identity") {
    return new ProviderFailure("provider_error", "The provider compressed its answer, which it was asked not to do.", {
      billable,
    });
  }
  if (type === "" || type.includes(streamType ?? "json")) return asAsked;
  const own = dialect.mannerOf?.(call, type);
  if (own !== undefined) return own;
  const named = type.split(";")[0]?.slice(0, 100);
  const wanted = streamType === undefined ? "JSON" : "a stream";
  return new ProviderFailure("provider_error", `The provider answered with ${named} instead of ${wanted}.`, {
    billable,
  });
}
