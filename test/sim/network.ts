/** The way between pods and the KeyService: slow, lossy, repeating itself, cut. */

import { create } from "@bufbuild/protobuf";
import { GatewayError } from "../../src/errors.ts";
import type { WatchResponse } from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import { PartySchema } from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import {
  type Authority,
  AuthorityRejected,
  AuthorityUnavailable,
  type Grant,
  type KeyNews,
  type LeaseAnswer,
  type LeaseAsk,
  type LeaseReturn,
  type Party,
  type PartyGrant,
  type SpendRecord,
} from "../../src/keys/authority.ts";
import { Backoff } from "../../src/keys/backoff.ts";
import { readGrant, readLeaseAnswer, readNews, readPartyGrant, writeParty } from "../../src/keys/messages.ts";
import { isConfigured } from "../../src/keyservice/configured-budgets.ts";
import {
  readParty,
  readSpendRecord,
  writeGrant,
  writeLeaseAnswer,
  writePartyGrant,
} from "../../src/keyservice/messages.ts";
import { messageOf } from "../keys/spend-record-message.ts";
import type { Replica } from "./key-service.ts";
import type { Tables } from "./memory-books.ts";
import type { ProcessClock, World } from "./world.ts";

/** As RemoteAuthority has them. */
const callerWaitsMs = 2_000;
const backgroundMs = 10_000;

/** How bad the network is: probabilities for each message. */
export interface Weather {
  readonly lost: number;
  readonly answerLost: number;
  readonly duplicated: number;
  readonly slow: number;
  /** The longest a slow message takes, in milliseconds. */
  readonly slowestMs: number;
}

/** One pod's way to the KeyService. */
export type Link = "up" | "refused" | "silent";

/** The KeyService is away for now, as a failing connection says. */
class Transient extends Error {}

/** The KeyService as one pod's process reaches it; behaves as RemoteAuthority over gRPC. */
export class SimAuthority implements Authority {
  readonly #world: World;
  readonly #clock: ProcessClock;
  readonly #podId: string;
  readonly #tables: Tables;
  readonly #replicas: readonly Replica[];
  readonly #weather: () => Weather;
  readonly #link: () => Link;
  #replica: Replica;
  #closed = false;
  #cutWatch: (() => void) | undefined;

  constructor(parts: {
    world: World;
    clock: ProcessClock;
    podId: string;
    tables: Tables;
    replicas: readonly Replica[];
    weather: () => Weather;
    link: () => Link;
  }) {
    this.#world = parts.world;
    this.#clock = parts.clock;
    this.#podId = parts.podId;
    this.#tables = parts.tables;
    this.#replicas = parts.replicas;
    this.#weather = parts.weather;
    this.#link = parts.link;
    this.#replica = parts.world.dice.pick(parts.replicas);
  }

  async resolve(keySha256: Buffer): Promise<Grant | undefined> {
    try {
      const grant = await this.#call("resolve", callerWaitsMs, async () => {
        const found = this.#tables.findGrant(keySha256.toString("hex"));
        if (found === undefined) throw new GatewayError("key_not_found", "There is no such key.");
        return writeGrant(found);
      });
      return readGrant(grant, { atMs: 0, sentAtMs: this.#clock.monotonicMs() });
    } catch (error) {
      if (!(error instanceof AuthorityRejected)) throw error;
      if (error.cause instanceof GatewayError && error.cause.code === "key_not_found") return undefined;
      throw new AuthorityUnavailable(error.cause);
    }
  }

  async resolveParties(parties: readonly Party[]): Promise<{ parties: readonly PartyGrant[]; version: bigint }> {
    const answer = await this.#call("parties", callerWaitsMs, async () => {
      const sent = parties.flatMap((party) => {
        const read = readParty(create(PartySchema, writeParty(party)));
        return isConfigured(read) ? [] : read;
      });
      const found = this.#tables.findParties(sent);
      return { parties: found.parties.map(writePartyGrant), version: found.version };
    });
    return { parties: answer.parties.map(readPartyGrant), version: answer.version };
  }

  async acquire(ask: LeaseAsk): Promise<LeaseAnswer> {
    const podId = this.#podId;
    const answer = await this.#call("acquire", callerWaitsMs, async (replica) =>
      writeLeaseAnswer(ask.leaseId, await replica.lend({ ...ask, podId })),
    );
    return readLeaseAnswer(answer);
  }

  renew(leaseIds: readonly string[]): Promise<{ ttlMs: number; ended: readonly string[] }> {
    return this.#call("renew", backgroundMs, ({ books }) => books.renew(leaseIds));
  }

  async giveBack(returns: readonly LeaseReturn[]): Promise<void> {
    await this.#call("return", backgroundMs, ({ books }) => books.giveBack(returns));
  }

  async settle(records: readonly SpendRecord[]): Promise<void> {
    const sent = records.map(messageOf);
    await this.#call("settle", backgroundMs, ({ books }) => books.settle(this.#podId, sent.map(readSpendRecord)));
  }

  async *watch(sinceVersion: bigint, signal: AbortSignal): AsyncIterable<KeyNews> {
    const queue: WatchResponse[] = [];
    let wake = () => {};
    let broken = false;
    const cut = () => {
      broken = true;
      wake();
    };
    const stopWaiting = () => wake();
    signal.addEventListener("abort", stopWaiting);
    const stop = await this.#openWatch(
      sinceVersion,
      (messages) => {
        queue.push(...messages);
        wake();
      },
      cut,
    );
    try {
      while (!signal.aborted && !this.#closed) {
        const next = queue.shift();
        if (next !== undefined) yield readNews(next);
        else if (broken) throw new AuthorityUnavailable(new Error("the watch broke"));
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      stop();
      signal.removeEventListener("abort", stopWaiting);
    }
  }

  /** A connection tells everything in order or breaks; while the way is silent it tells nothing, and so is broken after. */
  async #openWatch(
    sinceVersion: bigint,
    onNews: (messages: readonly WatchResponse[]) => void,
    onCut: () => void,
  ): Promise<() => void> {
    await this.#wait(this.#latencyMs());
    if (this.#link() === "refused" || !this.#replica.up) {
      this.#changeReplica();
      throw new AuthorityUnavailable(new Error("refused"));
    }
    let deaf = this.#link() === "silent";
    let heardAtMs = 0;
    const end: { stop: () => void } = { stop: () => {} };
    const deliver = (messages: readonly WatchResponse[]) => {
      if (this.#link() !== "up") deaf = true;
      if (deaf) return;
      heardAtMs = Math.max(heardAtMs, this.#world.nowMs + this.#latencyMs());
      this.#world.after(heardAtMs - this.#world.nowMs, "news", () => {
        if (this.#link() !== "up") deaf = true;
        if (!deaf && this.#clock.alive) onNews(messages);
      });
    };
    if (!deaf) end.stop = this.#replica.watch(sinceVersion, deliver);
    this.#cutWatch = () => {
      end.stop();
      onCut();
    };
    return () => end.stop();
  }

  /** What was connected breaks. */
  cut(): void {
    this.#changeReplica();
    this.#cutWatch?.();
    this.#cutWatch = undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cutWatch?.();
  }

  #changeReplica(): void {
    this.#replica = this.#world.dice.pick(this.#replicas);
  }

  async #call<Answer>(what: string, timeoutMs: number, serve: (replica: Replica) => Promise<Answer>): Promise<Answer> {
    const deadlineMs = this.#clock.monotonicMs() + timeoutMs;
    const backoff = new Backoff({ firstMs: 50, maxMs: 1_000, random: this.#world.dice.random });
    for (;;) {
      try {
        return await this.#attempt(what, deadlineMs - this.#clock.monotonicMs(), serve);
      } catch (error) {
        if (isRejection(error, what)) throw new AuthorityRejected(error);
        const waitMs = backoff.nextMs();
        const late = this.#clock.monotonicMs() + waitMs >= deadlineMs;
        const transient = error instanceof Transient || isAway(error);
        if (!transient || late || this.#closed) throw new AuthorityUnavailable(error);
        this.#changeReplica();
        await this.#wait(waitMs);
      }
    }
  }

  #attempt<Answer>(what: string, leftMs: number, serve: (replica: Replica) => Promise<Answer>): Promise<Answer> {
    const world = this.#world;
    const { dice } = world;
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(Math.max(1, leftMs), () => reject(new Error("deadline exceeded")));
      const answered = (act: () => void) => {
        if (!this.#clock.alive) return;
        cancel();
        act();
      };
      const replica = this.#replica;
      if (!this.#clock.alive) return;
      if (this.#link() === "refused" || !replica.up) {
        world.after(1, "refused", () => answered(() => reject(new Transient("connection refused"))));
        return;
      }
      const weather = this.#weather();
      const arrive = () => {
        if (!replica.up) {
          world.after(1, "reset", () => answered(() => reject(new Transient("connection reset"))));
          return;
        }
        world.tell(`${this.#podId} ${what} arrives`);
        const answer = serve(replica);
        const reply = (act: () => void) => {
          if (this.#link() === "silent" || dice.happens(weather.answerLost)) {
            world.tell(`${what} answer lost`);
            // Sometimes the connection breaks, and the pod knows; sometimes it can only wait.
            if (dice.happens(0.5)) world.after(5, "broken", () => answered(() => reject(new Transient("broken"))));
            return;
          }
          world.after(this.#latencyMs(), `${what} answer`, () => answered(act));
        };
        answer.then(
          (value) => reply(() => resolve(value)),
          (error) => reply(() => reject(error)),
        );
      };
      if (this.#link() === "up" && !dice.happens(weather.lost))
        world.after(this.#latencyMs(), `${what} request`, arrive);
      if (dice.happens(weather.duplicated))
        world.after(this.#latencyMs() + dice.whole(0, weather.slowestMs), `${what} twin`, arrive);
    });
  }

  #latencyMs(): number {
    const { dice } = this.#world;
    const weather = this.#weather();
    return dice.happens(weather.slow) ? dice.whole(20, weather.slowestMs) : dice.whole(1, 4);
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.#clock.after(ms, resolve));
  }
}

/** What RemoteAuthority takes for an answer that will never be another. */
function isRejection(error: unknown, what: string): error is GatewayError {
  if (!(error instanceof GatewayError)) return false;
  if (error.code === "invalid_request" || error.code === "key_not_found") return true;
  return what === "acquire" && (error.code === "blocked_key" || error.code === "expired_key");
}

function isAway(error: unknown): boolean {
  return error instanceof GatewayError && error.code === "keyservice_unavailable";
}
