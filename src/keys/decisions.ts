import { hash } from "node:crypto";
import type { Clock, Random } from "../clock.ts";
import type { Secret } from "../secret.ts";
import { SecretDigest } from "../secret-digest.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import {
  type Authority,
  AuthorityUnavailable,
  type Grant,
  type KeyChange,
  type Party,
  type PartyGrant,
  type Scope,
} from "./authority.ts";
import { Backoff, pause } from "./backoff.ts";
import { GrantCache } from "./grant-cache.ts";
import { LookupAllowance } from "./lookup-allowance.ts";
import { Parties } from "./parties.ts";
import { Recent } from "./recent.ts";

const tokenLengthMax = 512;
const tokenForm = /^sk-[\x21-\x7e]+$/;
/** The KeyService sends something at least this often; a silent watch is taken for dead. */
const silenceMaxMs = 15_000;
/** An answer older than a change already seen is asked for again, so often at most. */
const asksMax = 3;

/** What Decisions are made of. */
export interface DecisionsParts {
  readonly authority: Authority;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Pick<Telemetry, "log">;
  /** The operator's own key: unlimited, unknown to the KeyService. */
  readonly masterKey: Secret | undefined;
  /** Told when the database's models have changed, or may have, by this version of the books. */
  readonly onModels: (version: bigint) => void;
  /** Told when what is held of a budget ahead of need should go back at once. */
  readonly onRecall: (budgetId: string) => void;
  /** The most grants kept. */
  readonly capacity: number;
  /** How long a grant is believed after the KeyService was last heard of, in milliseconds. */
  readonly staleMs: number;
  /** How long "no such key" is believed, in milliseconds. */
  readonly negativeTtlMs: number;
}

/** Values for those who have no reason for others. */
export const decisionDefaults = { capacity: 20_000, staleMs: 900_000, negativeTtlMs: 5_000 } as const;

const masterKeyId = "key_master";

/** What the master key may do: everything. */
export const masterGrant: Grant = {
  keyId: masterKeyId,
  keyAlias: undefined,
  userId: undefined,
  teamId: undefined,
  organizationId: undefined,
  models: [],
  aliases: new Map(),
  rules: [],
  payer: { id: masterKeyId, keyId: masterKeyId, limits: [], budgets: [], extraBudgetIds: [] },
  modelBudgets: [],
  modelLimits: [],
  // Whatever it names besides itself keeps its own budgets and limits.
  partyScopes: ["end_user", "tag"],
  expiresAtMs: undefined,
  blocked: false,
  version: 0n,
  tags: [],
};

/** Who a token is: grants, cached by the token's digest and kept true by the KeyService's pushed changes. */
export class Decisions {
  readonly #authority: Authority;
  readonly #clock: Clock;
  readonly #telemetry: Pick<Telemetry, "log">;
  readonly #onModels: (version: bigint) => void;
  readonly #onRecall: (budgetId: string) => void;
  readonly #backoff: Backoff;
  readonly #masterKey: SecretDigest;
  readonly #staleMs: number;
  readonly #negativeTtlMs: number;
  readonly #grants: GrantCache;
  /** Digests of tokens that are no keys, and until when that is believed. */
  readonly #strangers = new Recent<number>(10_000);
  readonly #parties: Parties;
  readonly #allowance: LookupAllowance;
  /** The version of the last change of each key and of what keys belong to, so that a slow answer cannot bring back what a change has dropped. */
  readonly #changes = new Recent<bigint>(10_000);
  readonly #flights = new Map<string, Promise<Grant | undefined>>();
  readonly #closing = new AbortController();
  /** Counts resets; an answer asked for before one is worth nothing after it. */
  #epoch = 0;
  /** Counts changes. */
  #changeCount = 0;
  #version = 0n;
  #heardAtMs = Number.NEGATIVE_INFINITY;
  /** Whether this watch has told everything that was missed before it. */
  #caughtUp = false;
  #ready = false;
  #connected = false;
  /** Whether it has been logged that there is no watch; once an outage, and at a start that is not let in. */
  #missed = false;
  #watching: Promise<void> | undefined;

  constructor(parts: DecisionsParts) {
    this.#authority = parts.authority;
    this.#clock = parts.clock;
    this.#telemetry = parts.telemetry;
    this.#onModels = parts.onModels;
    this.#onRecall = parts.onRecall;
    this.#backoff = new Backoff({ firstMs: 100, maxMs: 4_000, random: parts.random });
    this.#masterKey = new SecretDigest(parts.masterKey);
    this.#staleMs = parts.staleMs;
    this.#negativeTtlMs = parts.negativeTtlMs;
    this.#grants = new GrantCache(parts.capacity);
    this.#allowance = new LookupAllowance(parts);
    this.#parties = new Parties({
      authority: parts.authority,
      monotonicMs: () => this.#clock.monotonicMs(),
      isFresh: (readAtMs) => this.#isFresh(readAtMs),
      capacity: parts.capacity,
    });
  }

  /** Whether the KeyService has been heard since the start. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Whether changes are being pushed now. */
  get connected(): boolean {
    return this.#connected;
  }

  /** How long ago the KeyService was heard, in milliseconds; undefined: not yet. */
  get heardAgoMs(): number | undefined {
    return Number.isFinite(this.#heardAtMs) ? this.#clock.monotonicMs() - this.#heardAtMs : undefined;
  }

  /** Begins to listen for changes; once. */
  start(): void {
    this.#watching ??= this.#watch();
  }

  /** Stops listening. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#watching;
  }

  /**
   * What a token may do; at once if it is known. Blocked and expired keys have grants that say so.
   *
   * @returns undefined if it is definitely no key.
   * @throws AuthorityUnavailable (as a rejection) if the KeyService has to be asked and cannot be.
   */
  resolve(token: string): Grant | undefined | Promise<Grant | undefined> {
    if (token.length > tokenLengthMax) return undefined;
    const digest = hash("sha256", token, "binary");
    const kept = this.#grants.get(digest);
    if (kept !== undefined && this.#isFresh(kept.readAtMs)) return kept.grant;
    if (this.#masterKey.is(Buffer.from(digest, "binary"))) return masterGrant;
    if (!tokenForm.test(token)) return undefined;
    const strangerUntilMs = this.#strangers.get(digest);
    if (strangerUntilMs !== undefined && this.#clock.monotonicMs() < strangerUntilMs) return undefined;
    return this.#flights.get(digest) ?? this.#fly(digest);
  }

  /**
   * What holds for what a call names besides its key, at once if it is known.
   *
   * @throws AuthorityUnavailable (as a rejection) if the KeyService has to be asked and cannot be.
   */
  resolveParties(parties: readonly Party[]): readonly PartyGrant[] | Promise<readonly PartyGrant[]> {
    return this.#parties.resolve(parties);
  }

  #isFresh(readAtMs: number): boolean {
    return this.#clock.monotonicMs() - Math.max(readAtMs, this.#heardAtMs) <= this.#staleMs;
  }

  #fly(digest: string): Promise<Grant | undefined> {
    if (!this.#allowance.take()) {
      return Promise.reject(new AuthorityUnavailable(new Error("Too many unknown keys are being looked up.")));
    }
    const flight = this.#ask(digest).finally(() => this.#flights.delete(digest));
    // A KeyService that is away has said nothing about the key.
    const noGuess = () => this.#allowance.giveBack();
    flight.then((grant) => grant === undefined || noGuess(), noGuess);
    this.#flights.set(digest, flight);
    return flight;
  }

  async #ask(digest: string): Promise<Grant | undefined> {
    const keySha256 = Buffer.from(digest, "binary");
    for (let ask = 1; ask <= asksMax; ask++) {
      const epoch = this.#epoch;
      const changeCount = this.#changeCount;
      const readAtMs = this.#clock.monotonicMs();
      const grant = await this.#authority.resolve(keySha256);
      if (epoch !== this.#epoch) continue;
      if (grant === undefined) {
        // A change meanwhile may be the birth of this very key: then the answer holds for this call only.
        if (changeCount === this.#changeCount) this.#strangers.set(digest, readAtMs + this.#negativeTtlMs);
        return undefined;
      }
      if (this.#isCurrent(grant)) {
        this.#grants.put(digest, { grant, readAtMs });
        return grant;
      }
      await pause(this.#clock, 20 * ask, this.#closing.signal);
    }
    throw new AuthorityUnavailable(new Error("The KeyService's answers are older than its changes."));
  }

  #isCurrent({ keyId, teamId, userId, organizationId, version }: Grant): boolean {
    const last = (scope: Scope, id: string | undefined) =>
      (id === undefined ? undefined : this.#changes.get(`${scope} ${id}`)) ?? 0n;
    return (
      version >= last("key", keyId) &&
      version >= last("team", teamId) &&
      version >= last("user", userId) &&
      version >= last("organization", organizationId)
    );
  }

  async #watch(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      // A watch that the KeyService has ended by plan goes on with the next one.
      let isOver = false;
      try {
        isOver = await this.#listen(signal);
      } catch (error) {
        if (!this.#missed) this.#telemetry.log("warn", "The KeyService's changes are not heard.", { error });
        this.#missed = true;
      }
      this.#connected = isOver && !signal.aborted;
      await pause(this.#clock, this.#backoff.nextMs(), signal);
    }
  }

  /** @returns false if the KeyService has fallen silent. */
  async #listen(closing: AbortSignal): Promise<boolean> {
    const silent = new AbortController();
    let spokenAtMs = this.#clock.monotonicMs();
    let cancel = () => {};
    const listenForSilence = (delayMs: number) => {
      cancel = this.#clock.after(delayMs, () => {
        const leftMs = spokenAtMs + silenceMaxMs - this.#clock.monotonicMs();
        if (leftMs <= 0) silent.abort();
        else listenForSilence(leftMs);
      });
    };
    listenForSilence(silenceMaxMs);
    this.#caughtUp = false;
    try {
      for await (const change of this.#authority.watch(this.#version, AbortSignal.any([closing, silent.signal]))) {
        if (change.type === "recall") {
          // It says nothing of whether changes still come.
          this.#onRecall(change.budgetId);
          continue;
        }
        spokenAtMs = this.#clock.monotonicMs();
        this.#hear(change);
      }
      return !silent.signal.aborted;
    } finally {
      cancel();
    }
  }

  #hear(change: KeyChange): void {
    if (change.type === "heartbeat" || change.type === "reset") this.#caughtUp = true;
    // While changes are still missing, what they are about is no fresher than it was.
    if (this.#caughtUp) this.#heardAtMs = this.#clock.monotonicMs();
    // The first watch starts from now; what was read before it may have changed unheard.
    if (!this.#ready) this.#forgetAll();
    // A KeyService that is connected to anew may be able to read what the one before could not.
    if (!this.#connected || change.type === "reset" || change.type === "models") this.#onModels(change.version);
    if (!this.#connected) this.#telemetry.log("info", "Listening to the KeyService's changes.");
    this.#ready = true;
    this.#connected = true;
    this.#missed = false;
    this.#backoff.reset();
    if (change.type === "reset") {
      this.#forgetAll();
      // May go backwards: books restored from a backup count again from there.
      this.#version = change.version;
      return;
    }
    if (change.version > this.#version) this.#version = change.version;
    if (change.type === "heartbeat" || change.type === "models") return;
    this.#changeCount++;
    this.#drop(change);
  }

  #drop(change: Exclude<KeyChange, { type: "reset" | "heartbeat" | "models" }>): void {
    if (change.type === "key") {
      this.#changes.set(`key ${change.keyId}`, change.version);
      this.#grants.dropKey(change.keyId);
      this.#strangers.clear();
      return;
    }
    const { scope, id, version } = change;
    if (scope === "end_user" || scope === "tag") {
      this.#parties.drop({ scope, id }, version);
      return;
    }
    this.#changes.set(`${scope} ${id}`, version);
    this.#grants.dropWhere(
      (grant) =>
        (scope === "team" && grant.teamId === id) ||
        (scope === "user" && grant.userId === id) ||
        (scope === "organization" && grant.organizationId === id),
    );
  }

  #forgetAll(): void {
    this.#epoch++;
    this.#changes.clear();
    this.#grants.clear();
    this.#strangers.clear();
    this.#parties.clear();
  }
}
