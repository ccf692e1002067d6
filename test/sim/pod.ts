import { Admission } from "../../src/admission/admission.ts";
import type { CompletionRequest } from "../../src/completion.ts";
import type { Config } from "../../src/config/config.ts";
import type { Counters } from "../../src/counters/counters.ts";
import { StandbyCounters } from "../../src/counters/standby.ts";
import { GatewayError } from "../../src/errors.ts";
import { Gateway } from "../../src/gateway.ts";
import type { SpendRecord } from "../../src/keys/authority.ts";
import { Decisions, decisionDefaults } from "../../src/keys/decisions.ts";
import { Journal } from "../../src/keys/journal.ts";
import { Leases } from "../../src/keys/leases.ts";
import { Overdraft } from "../../src/keys/overdraft.ts";
import { Shipper } from "../../src/keys/shipper.ts";
import { SpentBudgets } from "../../src/keys/spent-budgets.ts";
import { Closers } from "../../src/lifecycle.ts";
import { ResponseIds } from "../../src/response-ids.ts";
import { Health } from "../../src/routing/health.ts";
import { Router } from "../../src/routing/router.ts";
import { Secret } from "../../src/secret.ts";
import type { AttemptTrace, CallOrigin, CallTrace, Telemetry } from "../../src/telemetry/telemetry.ts";
import { sampleBoard } from "../routing/sample-board.ts";
import type { Disk, MountedDisk } from "./disk.ts";
import type { Replica } from "./key-service.ts";
import { SimCounters } from "./limits.ts";
import type { Tables } from "./memory-books.ts";
import { type Link, SimAuthority, type Weather } from "./network.ts";
import { type Bills, SimProvider } from "./provider.ts";
import { ProcessClock, type World } from "./world.ts";

/** What processes of a run share. */
export interface Surroundings {
  readonly world: World;
  readonly tables: Tables;
  readonly replicas: readonly Replica[];
  readonly bills: Bills;
  readonly config: Config;
  readonly limits: Counters;
  readonly podCount: number;
  readonly dishonest: boolean;
  readonly fsync: "none" | "interval" | "always";
  readonly segmentBytes: number;
  readonly pendingMax: number;
  readonly redisMode: Config["redisUnavailable"];
  readonly alone: Config["keyServiceUnavailable"];
  readonly weather: () => Weather;
  readonly redisTrouble: () => "none" | "away" | "mute";
  /** Whether nothing goes wrong any more. */
  readonly calm: () => boolean;
}

/** How a call ended for the application: with an answer, an error's code, its own leaving, or with the pod's death. */
export type Outcome = "settled" | "left" | "died" | (string & {});

/** A call as its application sees it. */
export interface Call {
  readonly name: string;
  readonly keyId: string;
  readonly token: string;
  readonly request: CompletionRequest;
  /** Leaves after so many events; undefined: stays to the end. */
  readonly leavesAfter: number | undefined;
  /** Gives up after so many milliseconds. */
  readonly patienceMs: number | undefined;
  readonly startedMs: number;
  pod: number;
  outcome: Outcome | undefined;
  endedMs: number;
  cost: bigint | undefined;
}

const nothingTraced: AttemptTrace = {
  traceparent: undefined,
  takesContent: false,
  settling: () => {},
  firstOutput: () => {},
  end: () => {},
};

/** One process of a pod: the real house, from the gateway down to the journal and the leases. */
export class PodProcess implements Telemetry {
  readonly index: number;
  readonly clock: ProcessClock;
  readonly disk: MountedDisk;
  readonly journal: Journal;
  readonly leases: Leases;
  readonly overdraft: Overdraft | undefined;
  readonly decisions: Decisions;
  readonly authority: SimAuthority;
  readonly #shipper: Shipper;
  readonly #counters: SimCounters;
  readonly #gateway: Gateway;
  readonly #world: World;
  readonly calls = new Set<Call>();
  readonly #leave = new Set<AbortController>();
  draining = false;

  constructor(
    parts: Surroundings,
    facts: { index: number; disk: Disk; offsetMs: number; rate: number; link: () => Link },
  ) {
    const { world } = parts;
    const { dice } = world;
    this.#world = world;
    this.index = facts.index;
    const clock = new ProcessClock(world, { what: `pod${facts.index}`, offsetMs: facts.offsetMs, rate: facts.rate });
    this.clock = clock;
    this.disk = facts.disk.mount();
    const shared = { clock, telemetry: this, newId: dice.newId, random: dice.random };
    const { fsync, segmentBytes, pendingMax } = parts;
    this.journal = new Journal({ ...shared, host: this.disk, directory: "journal", fsync, segmentBytes, pendingMax });
    this.authority = new SimAuthority({ ...parts, clock, podId: `pod${facts.index}`, link: facts.link });
    const { authority, journal } = this;
    this.leases = new Leases({ ...shared, authority, book: journal });
    this.overdraft = parts.alone.mode === "open" ? new Overdraft(parts.alone.max) : undefined;
    const onBooked = (records: readonly SpendRecord[]) => {
      this.leases.booked(records);
      this.overdraft?.booked(records);
    };
    this.#shipper = new Shipper({ ...shared, journal, authority, onBooked });
    this.decisions = new Decisions({
      ...decisionDefaults,
      ...shared,
      authority,
      masterKey: undefined,
      onModels: () => {},
      onRecall: (budgetId) => this.leases.recall(budgetId),
    });
    this.#counters = new SimCounters({ world, clock, store: parts.limits, trouble: parts.redisTrouble });
    const counters = new StandbyCounters({
      store: this.#counters,
      livePods: async () => parts.podCount,
      mode: parts.redisMode,
      clock,
    });
    const provider = new SimProvider({ ...parts, clock });
    const board = sampleBoard(clock);
    const health = new Health({ clock, board });
    this.#gateway = new Gateway({
      admission: new Admission({
        ...{ decisions: this.decisions, leases: this.leases, overdraft: this.overdraft, journal, counters, clock },
        isClosedAlone: parts.alone.mode === "closed",
        unpricedModels: "refuse",
        countedTokens: "total",
        tagBudgets: new Map(),
        spent: new SpentBudgets({ clock }),
        countUnpriced: () => {},
      }),
      snapshots: {
        current: {
          router: new Router({
            config: parts.config,
            random: dice.random,
            behindWildcard: (wildcard, model) => ({ ...wildcard, model }),
            facts: health,
          }),
          digest: "",
        },
      },
      providerOf: () => provider,
      responseIds: new ResponseIds({ secret: new Secret("sk-sim") }),
      ...{ health, board },
      ...{ telemetry: this, clock, random: dice.random, newCallId: dice.newId },
    });
    this.leases.adopt(journal.formerLeases);
    this.#shipper.start();
    this.decisions.start();
  }

  /** Whether it takes calls. */
  get ready(): boolean {
    return this.clock.alive && !this.draining && this.decisions.ready;
  }

  /** Makes a call, and keeps what became of it. */
  async call(call: Call): Promise<void> {
    this.calls.add(call);
    const leave = new AbortController();
    this.#leave.add(leave);
    if (call.patienceMs !== undefined) {
      this.clock.after(call.patienceMs, () => leave.abort(new GatewayError("client_closed_request", "left")));
    }
    const outcome = await this.#read(call, leave).catch((error) => GatewayError.from(error));
    this.#leave.delete(leave);
    if (!this.clock.alive) return;
    if (outcome instanceof GatewayError) {
      call.outcome = outcome.code === "client_closed_request" ? "left" : outcome.code;
      if (outcome.code === "internal_error") throw outcome;
    } else call.outcome = outcome;
    call.endedMs = this.#world.nowMs;
    this.calls.delete(call);
    this.#world.tell(`call ends ${call.outcome}`, () => call.name);
  }

  async #read(call: Call, leave: AbortController): Promise<Outcome> {
    const events = this.#gateway.complete(call.request, {
      token: call.token,
      requestId: call.name,
      ...{
        door: "sim",
        route: "/",
        idempotencyKey: undefined,
        cacheControl: undefined,
        traceparent: undefined,
        tracestate: undefined,
        tags: [],
        repeat: {},
      },
      signal: leave.signal,
    });
    let seen = 0;
    for await (const event of events) {
      if (event.type === "settled") {
        call.cost = event.cost;
        continue;
      }
      if (++seen === call.leavesAfter) {
        leave.abort(new GatewayError("client_closed_request", "left"));
        return "left";
      }
    }
    return "settled";
  }

  /** It is dead, without a word. */
  kill(): void {
    this.clock.alive = false;
    this.disk.kill();
    this.#counters.die();
    for (const call of this.calls) {
      call.outcome = "died";
      call.endedMs = this.#world.nowMs;
    }
    this.calls.clear();
  }

  /** It is asked to end, and does so in order, as the gateway's close does. */
  async stop(graceMs: number): Promise<void> {
    this.draining = true;
    for (let waitedMs = 0; this.calls.size > 0 && waitedMs < graceMs; waitedMs += 100) await this.#wait(100);
    for (const leave of this.#leave) leave.abort(new GatewayError("shutting_down", "The gateway is shutting down."));
    while (this.calls.size > 0) await this.#wait(10);
    const closers = new Closers();
    closers.add("authority", () => this.authority.close());
    closers.add("journal", () => this.journal.close());
    closers.add("shipper", () => this.#shipper.close());
    closers.add("leases", () => this.leases.close());
    closers.add("settlements", async () => void (await this.#shipper.flush(graceMs)));
    closers.add("decisions", () => this.decisions.close());
    await closers.close((name, error) => this.#world.tell(`could not close ${name}`, () => String(error)));
  }

  startCall(_: CompletionRequest, { requestId }: CallOrigin): CallTrace {
    return {
      traceId: requestId,
      identify: () => {},
      fellBack: () => {},
      authorize: (work) => work(),
      lookUp: (work) => work(),
      attempt: () => nothingTraced,
      end: () => {},
    };
  }

  log(level: string, message: string, facts?: Readonly<Record<string, unknown>>): void {
    if (this.#world.onTell === undefined || level === "debug") return;
    this.#world.onTell(`          pod${this.index} ${level}: ${message} ${facts?.error ?? ""}`);
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(ms, resolve));
  }
}
