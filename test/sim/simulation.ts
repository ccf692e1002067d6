/** One run of the whole house from a seed: what happens in it, and what must hold whatever happens. */

import { hash } from "node:crypto";
import type { CompletionRequest } from "../../src/completion.ts";
import type { Config } from "../../src/config/config.ts";
import { MemoryCounters } from "../../src/counters/memory.ts";
import { sampleConfig, sampleDeployment } from "../sample-call.ts";
import { Disk } from "./disk.ts";
import { Invariants } from "./invariants.ts";
import { Replica } from "./key-service.ts";
import { Tables } from "./memory-books.ts";
import type { Link, Weather } from "./network.ts";
import { type Call, PodProcess, type Surroundings } from "./pod.ts";
import { Bills, outputTokensMaxDefault, priceOf } from "./provider.ts";
import { type Dice, ProcessClock, World } from "./world.ts";

const fair: Weather = { lost: 0, answerLost: 0, duplicated: 0, slow: 0, slowestMs: 0 };
const durations = [null, null, null, "10s", "30s", "1m", "1d"] as const;

const leaseOnly = { mode: "lease_only" } as const;

/** How far back a machine that fails loses what was written. */
const unsyncedMs = { always: 0, interval: 1_000, none: Number.POSITIVE_INFINITY } as const;

/** A place where a pod's processes live one after the other. */
interface Site {
  readonly index: number;
  disk: Disk;
  process: PodProcess | undefined;
  link: Link;
  offsetMs: number;
  readonly rate: number;
  starting: boolean;
}

/** What can go wrong in a run; each run has a choice of its own. */
interface Troubles {
  readonly weather: boolean;
  readonly crashes: boolean;
  readonly tornWrites: boolean;
  readonly powerLoss: boolean;
  readonly lostDisks: boolean;
  readonly restarts: boolean;
  readonly partitions: boolean;
  readonly replicas: boolean;
  readonly database: boolean;
  readonly clocks: boolean;
  readonly disks: boolean;
  readonly admin: boolean;
  readonly redis: boolean;
}

/** How a run went. */
export interface Result {
  readonly seed: number;
  readonly violation: string | undefined;
  readonly traceHash: number;
  readonly events: number;
  readonly calls: number;
  readonly outcomes: ReadonlyMap<string, number>;
}

/** A run. */
export class Simulation {
  readonly seed: number;
  readonly world: World;
  readonly #dice: Dice;
  readonly #tables = new Tables();
  readonly #replicas: Replica[] = [];
  readonly #sites: Site[] = [];
  readonly #bills = new Bills();
  readonly #calls: Call[] = [];
  readonly #shared: Surroundings;
  readonly #troubles: Troubles;
  readonly #invariants: Invariants;
  readonly #limits: MemoryCounters;
  readonly #chaosMs: number;
  readonly #leaseTtlMs: number;
  #weather: Weather = fair;
  #redisTrouble: "none" | "away" | "mute" = "none";
  #calm = false;
  /** How far ahead any replica's clock has ever been. */
  #latestOffsetMs = 3_000;

  constructor(seed: number, onTell?: (line: string) => void) {
    this.seed = seed;
    this.world = new World(seed);
    this.world.onTell = onTell;
    const { world } = this;
    const { dice } = world;
    this.#dice = dice;
    this.#troubles = chooseTroubles(dice);
    this.#chaosMs = dice.whole(4_000, 25_000);
    this.#leaseTtlMs = dice.whole(5_000, 15_000);
    const dishonest = dice.happens(0.15);
    this.#invariants = new Invariants({
      ...{ tables: this.#tables, bills: this.#bills, calls: this.#calls },
      clocksAgree: !this.#troubles.clocks,
    });
    this.#limits = new MemoryCounters({ clock: new ProcessClock(world, { what: "redis", offsetMs: 0, rate: 1 }) });
    const replicaCount = dice.whole(1, 2);
    for (let index = 0; index < replicaCount; index++) {
      const offsetMs = this.#troubles.clocks ? dice.whole(-3_000, 3_000) : 0;
      this.#replicas.push(new Replica(world, this.#tables, { leaseTtlMs: this.#leaseTtlMs, offsetMs }));
    }
    this.#tables.onChange = () => {
      for (const replica of this.#replicas) world.after(dice.whole(1, 900), "look", () => replica.look());
    };
    const podCount = dice.whole(1, 4);
    this.#shared = {
      ...{ world, tables: this.#tables, replicas: this.#replicas, bills: this.#bills, dishonest, podCount },
      config: simConfig(dice),
      limits: this.#limits,
      fsync: dice.pick(["none", "interval", "always"] as const),
      segmentBytes: dice.pick([2_000, 6_000, 1_000_000]),
      pendingMax: dice.pick([2, 10, 1_000]),
      redisMode: dice.pick(["local_share", "closed", "open"] as const),
      alone: dice.pick([
        ...[leaseOnly, leaseOnly, leaseOnly],
        { mode: "closed" },
        { mode: "open", max: BigInt(dice.whole(10_000, 500_000)) },
      ]),
      weather: () => this.#weather,
      redisTrouble: () => this.#redisTrouble,
      calm: () => this.#calm,
    };
    this.#makeKeys(dice.whole(1, 3));
    for (let index = 0; index < podCount; index++) {
      this.#sites.push({
        ...{ index, disk: new Disk(world), process: undefined, link: "up", starting: false },
        offsetMs: this.#troubles.clocks && dice.happens(0.5) ? dice.whole(-3_600_000, 3_600_000) : 0,
        rate: this.#troubles.clocks ? 1 + (dice.random() - 0.5) / 2_000 : 1,
      });
    }
  }

  /** Runs it. Never rejects. */
  async run(): Promise<Result> {
    let violation: string | undefined;
    try {
      for (const site of this.#sites) this.#start(site);
      this.#plan();
      await this.#pass(this.#chaosMs);
      await this.#heal();
      await this.#probe();
    } catch (error) {
      violation = error instanceof Error ? (error.stack ?? error.message) : String(error);
    }
    const outcomes = new Map<string, number>();
    for (const { outcome = "none" } of this.#calls) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    const { traceHash, eventCount: events } = this.world;
    return { seed: this.seed, violation, traceHash, events, calls: this.#calls.length, outcomes };
  }

  async #pass(ms: number): Promise<void> {
    let failure: unknown;
    await this.world.runUntil(this.world.nowMs + ms, () => {
      try {
        this.#afterEach();
      } catch (error) {
        failure = error;
        return true;
      }
      return false;
    });
    if (failure !== undefined) throw failure;
  }

  #afterEach(): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#invariants.afterStep();
    for (const site of this.#sites) {
      if (site.process !== undefined && !site.process.clock.alive) this.#buried(site);
    }
  }

  #failure: unknown;

  // --- what is there ---

  #makeKeys(count: number): void {
    const dice = this.#dice;
    const shared = dice.happens(0.4);
    if (shared) this.#makeBudget("team", dice);
    const tagCount = dice.happens(0.4) ? dice.whole(1, 2) : 0;
    for (let index = 0; index < tagCount; index++) {
      this.#tables.tags.set(`tag${index}`, [this.#makeBudget(`tag${index}`, dice, "tag")]);
    }
    for (let index = 0; index < count; index++) {
      const keyId = `key_${index}`;
      const budgetIds = [this.#makeBudget(keyId, dice)];
      if (dice.happens(0.3)) budgetIds.push(this.#makeBudget(`${keyId}_second`, dice));
      if (shared && dice.happens(0.7)) budgetIds.push("team");
      this.#tables.keys.set(keyId, {
        sha256: hash("sha256", tokenOf(keyId), "hex"),
        budgetIds,
        facts: {
          ...{
            alias: undefined,
            userId: undefined,
            teamId: undefined,
            organizationId: undefined,
            models: [],
            aliases: {},
          },
          limits: dice.happens(0.3)
            ? [{ scope: "key", scopeId: keyId, kind: "parallel", ceiling: BigInt(dice.whole(1, 6)) }]
            : [],
          ...{
            rules: [],
            tags: [],
            partyScopes: tagCount > 0 ? ["tag"] : [],
            expiresAt: undefined,
            blocked: false,
            allowedRoutes: [],
            enforcedParams: [],
            routerSettings: undefined,
            allowedCacheControls: [],
            hidesContent: false,
          },
        },
      });
    }
  }

  #makeBudget(budget_id: string, dice: Dice, scope = "key"): string {
    const limited = dice.happens(0.85);
    // From less than one call to some dozens of them.
    const max_nanos = limited ? BigInt(Math.floor(20_000 * 100 ** dice.random())) : null;
    this.#tables.budgets.set(budget_id, {
      ...{ budget_id, scope, scope_id: budget_id, max_nanos, model: null, temp_until: null },
      duration: dice.pick(durations),
      removed_at: null,
    });
    return budget_id;
  }

  #start(site: Site): void {
    const { index, disk, offsetMs, rate } = site;
    site.starting = false;
    if (this.#shared.alone.mode === "open") this.#invariants.noteOverdraft(this.#shared.alone.max);
    site.process = new PodProcess(this.#shared, { index, disk, offsetMs, rate, link: () => site.link });
    this.world.tell(`pod${index} starts`);
  }

  /** A process is dead; after a while its pod has another. */
  #buried(site: Site): void {
    site.process?.kill();
    site.process = undefined;
    this.world.tell(`pod${site.index} is dead`);
    this.#startLater(site, this.#calm ? 50 : this.#dice.whole(20, 4_000));
  }

  #startLater(site: Site, delayMs: number): void {
    if (site.starting) return;
    site.starting = true;
    this.world.after(delayMs, "start", () => this.#start(site));
  }

  // --- what happens ---

  #plan(): void {
    const { world } = this;
    const dice = this.#dice;
    const callCount = dice.whole(5, 60);
    for (let made = 0; made < callCount; ) {
      const burst = dice.happens(0.1) ? dice.whole(2, 12) : 1;
      const atMs = dice.random() * this.#chaosMs;
      const keyId = dice.pick([...this.#tables.keys.keys()]);
      for (let call = 0; call < burst; call++) world.after(atMs, "call", () => this.#call(keyId));
      made += burst;
    }
    const { weather, crashes, tornWrites, powerLoss, lostDisks, restarts } = this.#troubles;
    const { partitions, replicas, database, clocks, disks, admin, redis } = this.#troubles;
    if (weather) this.#often(3, () => this.#changeWeather());
    if (crashes) this.#often(3, () => this.#withProcess((process) => process.kill()));
    if (tornWrites) this.#often(3, () => this.#withProcess((process) => this.#killInWrite(process)));
    if (powerLoss) this.#often(2, () => this.#losePower());
    if (lostDisks) this.#often(2, () => this.#loseDisk());
    if (restarts) this.#often(3, () => this.#restart());
    if (partitions) this.#often(4, () => this.#partition());
    if (replicas) this.#often(3, () => this.#stopReplica());
    if (database) this.#often(2, () => this.#stopDatabase());
    if (clocks) this.#often(3, () => this.#jumpClock());
    if (disks) this.#often(2, () => this.#spoilDisk());
    if (admin) this.#often(4, () => this.#administer());
    if (redis) this.#often(2, () => this.#spoilRedis());
  }

  #often(most: number, happen: () => void): void {
    const count = this.#dice.whole(1, most);
    for (let time = 0; time < count; time++) this.world.after(this.#dice.random() * this.#chaosMs, "trouble", happen);
  }

  #for(ms: number, end: () => void): void {
    this.world.after(ms, "trouble ends", end);
  }

  #withProcess(act: (process: PodProcess, site: Site) => void): void {
    const site = this.#dice.pick(this.#sites);
    if (site.process?.clock.alive && !site.process.draining) act(site.process, site);
  }

  #killInWrite(process: PodProcess): void {
    this.world.tell("a kill in a write is due");
    process.disk.killInWrite(this.#dice.whole(1, 6), () => process.kill());
  }

  #losePower(): void {
    this.#withProcess((process, site) => {
      process.kill();
      if (site.disk.losePower(this.#dice)) {
        this.world.tell(`pod${site.index} loses what was not synced`);
        this.#invariants.excuse(site.index, unsyncedMs[this.#shared.fsync], this.world.nowMs, false);
      }
    });
  }

  #loseDisk(): void {
    this.#withProcess((process, site) => {
      process.kill();
      site.disk = new Disk(this.world);
      this.world.tell(`pod${site.index} loses its disk`);
      this.#invariants.excuse(site.index, Number.POSITIVE_INFINITY, this.world.nowMs, true);
    });
  }

  #restart(): void {
    this.#withProcess((process, site) => {
      this.world.tell(`pod${site.index} is asked to end`);
      process.stop(2_000).then(
        () => process.kill(),
        (error) => {
          this.#failure ??= error;
        },
      );
    });
  }

  #partition(): void {
    const dice = this.#dice;
    const sites = dice.happens(0.3) ? this.#sites : [dice.pick(this.#sites)];
    const link: Link = dice.happens(0.5) ? "refused" : "silent";
    for (const site of sites) {
      site.link = link;
      if (link === "refused") site.process?.authority.cut();
    }
    this.world.tell(`${link} for ${sites.length}`);
    this.#for(dice.whole(300, 14_000), () => {
      for (const site of sites) site.link = "up";
    });
  }

  #stopReplica(): void {
    const replica = this.#dice.pick(this.#replicas);
    replica.up = false;
    this.world.tell("a replica stops");
    for (const { process } of this.#sites) process?.authority.cut();
    this.#for(this.#dice.whole(100, 6_000), () => {
      replica.up = true;
      replica.look();
    });
  }

  #stopDatabase(): void {
    this.#tables.away = true;
    this.world.tell("the database stops");
    this.#for(this.#dice.whole(100, 6_000), () => {
      this.#tables.away = false;
      for (const replica of this.#replicas) replica.look();
    });
  }

  #jumpClock(): void {
    const dice = this.#dice;
    const jumpMs = dice.pick([-3_600_000, -20_000, -1_000, 1_000, 20_000, 3_600_000]);
    this.world.tell(`a clock jumps by ${jumpMs}`);
    if (dice.happens(0.5))
      this.#withProcess((process, site) => {
        site.offsetMs += jumpMs;
        process.clock.offsetMs = site.offsetMs;
      });
    else {
      const { clock } = dice.pick(this.#replicas);
      clock.offsetMs += jumpMs;
      this.#latestOffsetMs = Math.max(this.#latestOffsetMs, clock.offsetMs);
    }
  }

  #spoilDisk(): void {
    const { disk, index } = this.#dice.pick(this.#sites);
    const full = this.#dice.happens(0.6);
    if (full) disk.full = true;
    else disk.syncFails = true;
    this.world.tell(`pod${index}'s disk ${full ? "is full" : "fails to sync"}`);
    this.#invariants.noteBadDisk(index);
    this.#for(this.#dice.whole(100, 6_000), () => {
      disk.full = false;
      disk.syncFails = false;
    });
  }

  #spoilRedis(): void {
    this.#redisTrouble = this.#dice.happens(0.6) ? "away" : "mute";
    this.#for(this.#dice.whole(100, 5_000), () => {
      this.#redisTrouble = "none";
    });
  }

  #administer(): void {
    const dice = this.#dice;
    const keyId = dice.pick([...this.#tables.keys.keys()]);
    const kind = dice.whole(1, 3);
    this.world.tell(`admin ${kind}`, () => keyId);
    const tags = [...this.#tables.tags.keys()];
    if (kind === 2 && tags.length > 0 && dice.happens(0.4)) {
      const tag = dice.pick(tags);
      this.#raise(tag);
      this.#tables.changeTag(tag);
      return;
    }
    this.#tables.change(keyId, (key) => {
      if (kind === 1) key.facts = { ...key.facts, blocked: !key.facts.blocked };
      else if (kind === 2) this.#raise(dice.pick(key.budgetIds));
      else if (!this.#tables.budgets.has(`${keyId}_late`)) key.budgetIds.push(this.#makeBudget(`${keyId}_late`, dice));
    });
  }

  #raise(budgetId: string): void {
    const budget = this.#tables.budgets.get(budgetId);
    if (budget?.max_nanos === null || budget === undefined) return;
    const max_nanos = (budget.max_nanos * BigInt(this.#dice.whole(50, 200))) / 100n;
    this.#invariants.noteMax(budgetId, budget.max_nanos);
    this.#tables.budgets.set(budgetId, { ...budget, max_nanos });
  }

  #changeWeather(): void {
    const dice = this.#dice;
    const part = () => (dice.happens(0.5) ? 0 : dice.random() * 0.3);
    this.#weather = {
      ...{ lost: part(), answerLost: part(), duplicated: part(), slow: part() },
      slowestMs: dice.pick([100, 1_000, 8_000]),
    };
    this.world.tell("weather", () => JSON.stringify(this.#weather));
    this.#for(dice.whole(500, 10_000), () => {
      this.#weather = fair;
    });
  }

  #call(keyId: string): void {
    const dice = this.#dice;
    const ready = this.#sites.filter(({ process }) => process?.ready);
    if (ready.length === 0) return;
    const { process, index } = dice.pick(ready);
    const request = simRequest(`call${this.#calls.length}`, {
      inputTokensMax: dice.whole(1, 40),
      outputTokensMax: dice.happens(0.6) ? dice.whole(1, 60) : undefined,
      tags: [...this.#tables.tags.keys(), "unknown"].filter(() => dice.happens(0.4)),
    });
    const leavesAfter = dice.happens(0.12) ? dice.whole(1, 4) : undefined;
    const patienceMs = dice.happens(0.08) ? dice.whole(1, 3_000) : undefined;
    if (process !== undefined) this.#make(process, index, keyId, request, { leavesAfter, patienceMs });
  }

  #make(
    process: PodProcess,
    pod: number,
    keyId: string,
    request: CompletionRequest,
    whims: Pick<Call, "leavesAfter" | "patienceMs"> = { leavesAfter: undefined, patienceMs: undefined },
  ): Call {
    const call: Call = {
      ...{ name: request.endUser ?? "", keyId, token: tokenOf(keyId), request, pod, ...whims },
      startedMs: this.world.nowMs,
      ...{ outcome: undefined, endedMs: 0, cost: undefined },
    };
    this.#calls.push(call);
    this.world.tell(
      `pod${pod} is called`,
      () => `${call.name} ${keyId} ${request.inputTokensMax}/${request.outputTokensMax}`,
    );
    process.call(call).catch((error) => {
      this.#failure ??= error;
    });
    return call;
  }

  // --- the end ---

  /** All troubles end; then everything must come to rest. */
  async #heal(): Promise<void> {
    this.#calm = true;
    this.#weather = fair;
    this.#redisTrouble = "none";
    this.#tables.away = false;
    for (const replica of this.#replicas) {
      replica.up = true;
      // What ends by a clock that was ahead ends for one that is behind when it has caught up.
      replica.clock.offsetMs = this.#latestOffsetMs;
    }
    for (const site of this.#sites) {
      site.link = "up";
      site.disk.full = false;
      site.disk.syncFails = false;
      if (site.process?.draining === false) site.process.disk.spare();
    }
    this.world.tell("everything heals");
    // Troubles that were planned to begin later than this do so no more; those that end later end now.
    await this.#pass(this.#leaseTtlMs + 45_000);
    const healedSites = this.#sites.flatMap(({ process }) => process ?? []);
    this.#invariants.atRest(healedSites, this.#shared.podCount);
  }

  /** Whoever has money is served, for all of it; and whoever has none, or is blocked, is told so. */
  async #probe(): Promise<void> {
    const probes: { call: Call; expected: string }[] = [];
    const { keys, tags: known } = this.#tables;
    const choices = known.size === 0 ? [[]] : [[], [...known.keys()]];
    const asked = [...keys].flatMap(([keyId, { facts }]) => choices.map((tags) => ({ keyId, facts, tags })));
    for (const { keyId, facts, tags } of asked) {
      const process = this.#sites.flatMap((site) => site.process ?? []).find(({ ready }) => ready);
      if (process === undefined) throw new Error("no pod is ready after everything has healed");
      const room = this.#invariants.roomOf(keyId, tags, this.#replicas);
      const affordable = room === undefined ? outputTokensMaxDefault : Number((room - priceOf(1, 0)) / priceOf(0, 1));
      const outputTokensMax = Math.max(1, Math.min(affordable, 1_000_000));
      const expected = facts.blocked ? "blocked_key" : affordable >= 1 ? "served" : "budget_exceeded";
      const request = simRequest(`probe-${keyId}-${tags.join("-")}`, { inputTokensMax: 1, outputTokensMax, tags });
      probes.push({ call: this.#make(process, process.index, keyId, request), expected });
      // One after the other: keys may share a budget, and what one holds ahead another must have first.
      await this.#pass(this.#leaseTtlMs + 30_000);
    }
    this.#invariants.atRest(
      this.#sites.flatMap(({ process }) => process ?? []),
      this.#shared.podCount,
    );
    for (const { call, expected } of probes) {
      const served =
        call.outcome === "settled" || call.outcome?.startsWith("provider") || call.outcome === "stream_interrupted";
      const outcome = served ? "served" : call.outcome;
      if (outcome !== expected) throw new Error(`${call.name} should be ${expected} and is ${call.outcome}`);
    }
  }
}

function chooseTroubles(dice: Dice): Troubles {
  const level = dice.pick([0, 0.15, 0.3, 0.6]);
  const some = () => dice.happens(level);
  return {
    ...{ weather: some(), crashes: some(), tornWrites: some(), powerLoss: some(), lostDisks: some(), restarts: some() },
    ...{ partitions: some(), replicas: some(), database: some(), clocks: some(), disks: some(), admin: some() },
    redis: some(),
  };
}

function tokenOf(keyId: string): string {
  return `sk-${keyId}`;
}

function simConfig(dice: Dice): Config {
  const deployments = ["d1", "d2"]
    .slice(0, dice.whole(1, 2))
    .map((id) => sampleDeployment({ id, outputTokensMax: outputTokensMaxDefault }));
  return sampleConfig(deployments);
}

function simRequest(
  name: string,
  bounds: { inputTokensMax: number; outputTokensMax: number | undefined; tags: readonly string[] },
): CompletionRequest {
  return {
    ...{ operation: "chat", wire: undefined, raw: undefined, model: "m", stream: true, includeUsage: false },
    ...{ choiceCount: 1, endUser: name, ...bounds },
    chat: () => ({}),
  };
}
