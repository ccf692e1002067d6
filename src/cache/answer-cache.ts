import type { Clock } from "../clock.ts";
import type { CallEvent, Caller, CompletionRequest, LimitState, Usage } from "../completion.ts";
import type { AnswerCacheConfig } from "../config/answer-cache-config.ts";
import { answerKey } from "./answer-key.ts";
import type { AnswerStore } from "./answer-store.ts";
import { type CacheTerms, termsOf } from "./cache-terms.ts";
import { type Flight, Flights } from "./flights.ts";
import { AnswerRecorder, type KeptAnswer, readAnswer } from "./kept-answer.ts";
import { Recording } from "./recording.ts";
import { type Replay, replayOf } from "./replay.ts";

/** So many leaders are followed one after the other; when they all fail, each call goes alone, so that failures do not queue up. */
const leadersMax = 2;

/** A call that was let through, and may be answered from the cache. */
export interface AdmittedCall {
  readonly terms: CacheTerms;
  readonly request: CompletionRequest;
  readonly signal: AbortSignal;
  readonly callId: string;
  readonly keyId: string;
  readonly teamId: string | undefined;
  readonly modelGroup: string;
  /** The name that led to the group: behind a `*` it says which model. */
  readonly model: string;
  readonly outputTokensMax: number | undefined;
  readonly limits: readonly LimitState[];
  readonly timeoutMs: number;
  /** Looks for the answer on its behalf. */
  lookUp<Result>(work: () => Promise<Result | undefined>): Promise<Result | undefined>;
  /** Books an answer given again, and gives back what was reserved. */
  giveAgain(again: {
    readonly deploymentId: string;
    readonly usage: Usage;
    readonly status: "success" | "cancelled";
    readonly startedAtMs: number;
  }): void;
}

/** What came of looking for equal calls: the answer of one, or the lead of those to come, or neither. */
interface Joined {
  readonly shared: Buffer | undefined;
  readonly flight: Flight | undefined;
}

const alone: Joined = { shared: undefined, flight: undefined };

/** One of the two. */
export interface Found {
  /** An answer that is given again. */
  readonly kept?: AsyncIterable<CallEvent>;
  /** Records a new one. */
  readonly recording?: Recording;
}

interface Hit {
  readonly kept: KeptAnswer;
  readonly replay: Replay;
}

/**
 * Answers that can be given again, and calls that share one answer while it is made. Only whole answers are kept, and only calls that
 * were let through get here: a key is never given what it may not ask for.
 */
export class AnswerCache {
  readonly store: AnswerStore;
  readonly #config: AnswerCacheConfig;
  readonly #clock: Clock;
  readonly #flights: Flights;
  /** Calls that were answered without a provider, and those that looked for an answer in vain. */
  hits = 0;
  misses = 0;

  constructor(parts: { readonly store: AnswerStore; readonly config: AnswerCacheConfig; readonly clock: Clock }) {
    this.store = parts.store;
    this.#config = parts.config;
    this.#clock = parts.clock;
    this.#flights = new Flights(parts.clock);
  }

  /**
   * What a call wants of the cache.
   *
   * @param allowed the members of `cache` its key may set; undefined: all.
   * @returns undefined if nothing.
   * @throws GatewayError invalid_request, permission_denied.
   */
  termsOf(request: CompletionRequest, caller: Caller, allowed: readonly string[] | undefined): CacheTerms | undefined {
    return termsOf(request, caller, allowed, this.#config);
  }

  /**
   * Looks for the answer to a call: one that is kept, or that of an equal call under way once it is whole. Where there is none, whoever asks
   * has it made, and passes its events through a recording, which he must close.
   */
  async find(call: AdmittedCall): Promise<Found> {
    const startedAtMs = this.#clock.nowMs();
    const key = this.#keyOf(call);
    const { reads, stores, ttlMs } = call.terms;
    const { shared, flight } = reads ? await this.#join(key, call) : alone;
    let recording: Recording | undefined;
    try {
      const entry = shared ?? (reads ? await call.lookUp(() => this.store.get(key)) : undefined);
      const hit = entry && this.#usable(entry, call);
      if (hit !== undefined) {
        flight?.end(entry);
        return { kept: this.#giveAgain(key, call, hit, startedAtMs) };
      }
      this.misses += 1;
      const { modelGroup, request } = call;
      const recorder = stores ? new AnswerRecorder(request) : undefined;
      const put = (answer: Buffer) => this.store.put(key, answer, ttlMs);
      recording = new Recording({ key, modelGroup, recorder, flight, put, clock: this.#clock });
      return { recording };
    } finally {
      if (recording === undefined) flight?.end(undefined);
    }
  }

  #keyOf(call: AdmittedCall): string {
    const { sharing } = this.#config;
    const team = call.teamId === undefined ? undefined : `team ${call.teamId}`;
    // A key without a team has nobody to share with.
    const audience = sharing === "all" ? "" : ((sharing === "team" ? team : undefined) ?? `key ${call.keyId}`);
    return answerKey({ ...call, audience, namespace: call.terms.namespace });
  }

  /** Waits for an equal call that is under way; if there is none, or it fails and nobody else has, takes the lead. */
  async #join(key: string, { signal, terms }: AdmittedCall): Promise<Joined> {
    for (let leaders = 0; leaders < leadersMax; leaders++) {
      const leader = this.#flights.get(key);
      if (leader === undefined) break;
      const shared = await leader.follow(signal);
      if (shared !== undefined) return { shared, flight: undefined };
    }
    // In the same turn as the look for a leader, so that of many only one becomes it.
    return { shared: undefined, flight: terms.stores ? this.#flights.open(key) : undefined };
  }

  #usable(entry: Buffer, { request, terms }: AdmittedCall): Hit | undefined {
    const kept = readAnswer(entry);
    if (kept === undefined || this.#clock.nowMs() - kept.keptAtMs > terms.maxAgeMs) return undefined;
    const replay = replayOf(kept, request);
    return replay && { kept, replay };
  }

  async *#giveAgain(
    key: string,
    call: AdmittedCall,
    { kept, replay }: Hit,
    startedAtMs: number,
  ): AsyncGenerator<CallEvent, void, undefined> {
    this.hits += 1;
    const { callId, modelGroup, limits, timeoutMs } = call;
    const { deploymentId, usage } = kept;
    const cache = { key, isHit: true };
    let status: "success" | "cancelled" = "cancelled";
    const book = () => call.giveAgain({ deploymentId, usage, status, startedAtMs });
    try {
      const facts = { callId, deploymentId, modelGroup, attempts: 0, fallbacks: 0, timeoutMs, limits, cache };
      yield { type: "accepted", ...facts };
      yield* replay.events;
      status = "success";
      // Before the last byte leaves, as with any answer.
      book();
      yield { type: "settled", usage, cost: 0n, raw: replay.raw };
    } finally {
      if (status === "cancelled") book();
    }
  }
}
