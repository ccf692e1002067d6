import assert from "node:assert/strict";
import { hash, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Admission } from "../src/admission/admission.ts";
import { AnswerCache } from "../src/cache/answer-cache.ts";
import { MemoryAnswers } from "../src/cache/memory-answers.ts";
import { pause } from "../src/clock.ts";
import type { CallEvent, CompletionEvent, CompletionRequest } from "../src/completion.ts";
import type { Config, Deployment } from "../src/config/config.ts";
import { createMemoryCounters } from "../src/counters/memory.ts";
import { GatewayError } from "../src/errors.ts";
import { Gateway } from "../src/gateway.ts";
import type { Grant, Payer, SpendRecord } from "../src/keys/authority.ts";
import { Decisions, decisionDefaults } from "../src/keys/decisions.ts";
import { Journal, journalDefaults } from "../src/keys/journal.ts";
import { Leases } from "../src/keys/leases.ts";
import { Overdraft } from "../src/keys/overdraft.ts";
import { SpentBudgets } from "../src/keys/spent-budgets.ts";
import type { Provider, ProviderCall } from "../src/providers/provider.ts";
import { ResponseIds } from "../src/response-ids.ts";
import type { DeploymentFacts } from "../src/routing/candidate.ts";
import { Health } from "../src/routing/health.ts";
import { Router } from "../src/routing/router.ts";
import { Snapshots } from "../src/routing/snapshots.ts";
import { Secret } from "../src/secret.ts";
import type { AttemptTrace, CallTrace, Telemetry } from "../src/telemetry/telemetry.ts";
import { aborted } from "./front/scripted-gateway.ts";
import { HandClock } from "./keys/hand-clock.ts";
import { PaperAuthority } from "./keys/paper-authority.ts";
import { sampleGrant } from "./keys/samples.ts";
import { sampleBoard } from "./routing/sample-board.ts";
import { all, sampleCaller, sampleConfig, sampleDeployment, sampleRequest } from "./sample-call.ts";

/** What a provider does in one attempt, in order: an event, a failure, waiting for the caller to abort or for so many milliseconds, or doing something. */
export type Step = CompletionEvent | Error | "wait" | number | (() => void);

export const usage = {
  inputTokens: 10,
  outputTokens: 7,
  cacheReadInputTokens: 0,
  cacheWriteInputTokens: 0,
  reasoningOutputTokens: 0,
  estimated: false,
};
export const answer: readonly Step[] = [
  { type: "start", id: "up-1", model: "x", createdS: 1 },
  { type: "delta", choice: 0, text: "Hello you" },
  { type: "finish", choice: 0, reason: "stop" },
  { type: "end", usage, responseId: "up-1", raw: undefined },
];

/** A provider that plays scripts, one an attempt. */
class ScriptedProvider implements Provider {
  readonly calls: (ProviderCall & { ended: boolean })[] = [];
  scripts: (readonly Step[])[] = [];
  readonly #clock: HandClock;

  constructor(clock: HandClock) {
    this.#clock = clock;
  }

  countTokens?(): Promise<number>;

  async *complete(call: ProviderCall): AsyncGenerator<CompletionEvent, void, undefined> {
    const seen = { ...call, ended: false };
    const script = this.scripts[this.calls.push(seen) - 1] ?? answer;
    try {
      for (const step of script) {
        if (step === "wait") await aborted(call.signal);
        else if (typeof step === "number") await pause(this.#clock, step, call.signal);
        else if (typeof step === "function") step();
        else if (step instanceof Error) throw step;
        else yield step;
      }
    } finally {
      seen.ended = true;
    }
  }
}

/** Everything a call takes, but for network: the walk with real admission, leases, journal and counters. */
export class GatewayStage implements Telemetry {
  readonly clock = new HandClock();
  readonly authority = new PaperAuthority({ clock: this.clock });
  readonly provider = new ScriptedProvider(this.clock);
  readonly counters = createMemoryCounters({ clock: this.clock });
  readonly board = sampleBoard(this.clock);
  readonly health = new Health({ clock: this.clock, board: this.board });
  readonly facts: DeploymentFacts = {
    loadOf: (deployment) => this.health.loadOf(deployment),
    stateOf: (deployment) => this.health.stateOf(deployment),
    spentOf: (deployment) => this.spent.of(deployment),
  };
  readonly spent = new SpentBudgets({ clock: this.clock });
  readonly gateway: Gateway;
  readonly snapshots: Snapshots;
  readonly leases: Leases;
  readonly decisions: Decisions;
  readonly overdraft: Overdraft | undefined;
  readonly cache: AnswerCache | undefined;
  /** How each call and each attempt ended: an error's code, or "ok". */
  readonly ends: { calls: string[]; attempts: string[] } = { calls: [], attempts: [] };
  /** Groups of calls nobody knows the price of. */
  readonly unpriced: string[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), "tollgate-gateway-"));
  readonly #journal: Journal;
  readonly #grant: Grant;

  constructor(
    options: {
      grant?: Partial<Grant> & Partial<Pick<Payer, "limits" | "budgets">>;
      deployments?: readonly Deployment[];
      config?: Partial<Config>;
    } = {},
  ) {
    const max = 1_000_000_000n;
    const slots = { scope: "key", scopeId: "key_1", kind: "parallel", ceiling: 1 } as const;
    const grant = sampleGrant("key_1", max);
    const { limits = [slots], budgets = grant.payer.budgets, ...facts } = options.grant ?? {};
    this.#grant = { ...grant, payer: { ...grant.payer, limits, budgets }, ...facts };
    this.authority.grants.set(hash("sha256", "sk-caller", "hex"), this.#grant);
    this.authority.budgets.set("key_1", { max: budgets[0]?.max, spent: 0n, reserved: 0n });
    const { clock, authority, counters } = this;
    const shared = { authority, clock, telemetry: this, newId: randomUUID, random: () => 0 };
    this.#journal = this.#openJournal();
    this.leases = new Leases({ ...shared, book: this.#journal });
    const alone = options.config?.keyServiceUnavailable;
    this.overdraft = alone?.mode === "open" ? new Overdraft(alone.max) : undefined;
    const answers = options.config?.answerCache;
    const store = new MemoryAnswers({ clock, bytesMax: 10_000_000 });
    this.cache = answers && new AnswerCache({ config: answers, clock, store });
    const decisions = new Decisions({
      ...{ ...decisionDefaults, ...shared, masterKey: undefined, onModels: () => {} },
      onRecall: (budgetId) => this.leases.recall(budgetId),
    });
    this.decisions = decisions;
    this.snapshots = new Snapshots({
      config: sampleConfig(options.deployments ?? [sampleDeployment()], options.config),
      routerOf: (config) =>
        new Router({
          config,
          facts: this.facts,
          random: () => 0,
          behindWildcard: (wildcard, model) => ({ ...wildcard, model }),
        }),
    });
    this.gateway = new Gateway({
      admission: new Admission({
        ...{ decisions, leases: this.leases, journal: this.#journal, counters, clock },
        overdraft: this.overdraft,
        isClosedAlone: alone?.mode === "closed",
        unpricedModels: options.config?.unpricedModels ?? "refuse",
        countedTokens: options.config?.countedTokens ?? "total",
        tagBudgets: options.config?.tagBudgets ?? new Map(),
        spent: this.spent,
        countUnpriced: (model) => void this.unpriced.push(model),
      }),
      snapshots: this.snapshots,
      health: this.health,
      board: this.board,
      responseIds: new ResponseIds({ secret: new Secret("sk-test") }),
      providerOf: () => this.provider,
      cache: this.cache,
      telemetry: this,
      clock,
      random: () => 0,
      newCallId: randomUUID,
    });
  }

  startCall(): CallTrace {
    const attempt = (): AttemptTrace => ({
      traceparent: undefined,
      takesContent: false,
      firstOutput: () => {},
      settling: () => {},
      end: ({ error }) => void this.ends.attempts.push(error ?? "ok"),
    });
    return {
      traceId: "",
      identify: () => {},
      authorize: (work) => work(),
      lookUp: (work) => work(),
      fellBack: () => {},
      attempt,
      end: (failure) => void this.ends.calls.push(failure?.code ?? "ok"),
    };
  }

  log(): void {}

  /** Begins a call; nothing happens until its first event is asked for. */
  call(
    parts: {
      request?: CompletionRequest;
      signal?: AbortSignal;
      token?: string;
      idempotencyKey?: string;
      cacheControl?: string;
    } = {},
  ): AsyncGenerator<CallEvent> {
    const { token, idempotencyKey, cacheControl } = parts;
    const caller = {
      ...sampleCaller(parts.signal),
      ...(token === undefined ? {} : { token }),
      idempotencyKey,
      cacheControl,
    };
    return this.gateway.complete(parts.request ?? sampleRequest(), caller);
  }

  /** Lets time pass until a promise is settled. */
  async pass<T>(promise: Promise<T>): Promise<T> {
    let over = false;
    const settle = () => {
      over = true;
    };
    promise.then(settle, settle);
    for (let ms = 0; !over && ms < 200_000; ms += 5) await this.clock.advance(5);
    if (!over) throw new Error("it hangs");
    return promise;
  }

  /** Makes a whole call. */
  async answered(parts: Parameters<GatewayStage["call"]>[0] = {}): Promise<CallEvent[]> {
    return this.pass(all(this.call(parts)));
  }

  /** Makes a call that fails. @returns the failure, and the events before it. */
  async failed(parts: Parameters<GatewayStage["call"]>[0] = {}): Promise<{ error: GatewayError; events: CallEvent[] }> {
    const events: CallEvent[] = [];
    const read = async () => {
      for await (const event of this.call(parts)) events.push(event);
    };
    try {
      await this.pass(read());
    } catch (error) {
      assert.ok(error instanceof GatewayError);
      return { error, events };
    }
    throw new Error("the call did not fail");
  }

  /** What is written in the journal. */
  get records(): readonly SpendRecord[] {
    return this.#journal.peek(100);
  }

  /** At rest: nothing is held, every attempt begun is settled once, every provider iteration is over. Ends the stage. */
  async rest(): Promise<readonly SpendRecord[]> {
    const { records } = this;
    assert.equal(new Set(records.map(({ callId, attempt }) => `${callId}/${attempt}`)).size, records.length, "once");
    const made = records.filter(({ cacheHit }) => !cacheHit);
    assert.equal(made.length, this.provider.calls.length, "as many records as attempts");
    assert.equal(this.leases.stats().reserved, 0n, "no money is held");
    assert.equal(this.leases.stats().waiting, 0);
    assert.ok(
      this.provider.calls.every(({ ended }) => ended),
      "no provider is left running",
    );
    assert.equal(this.ends.attempts.length, made.length, "each attempt is told once");
    const slot = { kind: "slot", group: "key:key_1", name: "parallel", ceiling: 1, ttlMs: 1_000 } as const;
    assert.equal((await this.counters.take([slot])).ok, true, "the slot is free");
    await this.#journal.close();
    const next = this.#openJournal();
    assert.equal(next.stats().unconfirmed, 0, "no attempt is open in the journal");
    await next.close();
    rmSync(this.#directory, { recursive: true });
    return records;
  }

  #openJournal(): Journal {
    const parts = { ...journalDefaults, clock: this.clock, telemetry: this, newId: randomUUID };
    return new Journal({ ...parts, directory: this.#directory, fsync: "none" });
  }
}
