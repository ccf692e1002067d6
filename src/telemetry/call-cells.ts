/**
 * Where calls are counted: in one cell for each combination of what they had in common. A call is counted once, by a walk through
 * a few maps and some additions; what is told of it under which name is worked out when somebody asks (`call-metrics.ts`,
 * `litellm-metrics.ts`).
 */

import { Histogram } from "./metric-family.ts";

/** In seconds. SDKs give up after ten minutes. */
const callBoundsS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640];
const firstOutputBoundsS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2];
const overheadBoundsS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1];
const perTokenBoundsS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

/** So many keys are told apart, and so many teams; the rest are "other". */
const ownersMax = 500;
/** So many combinations in all; after that the key is "other" in new ones. */
const cellsMax = 10_000;

/** Who a call is made for. "": nobody. */
export interface Owner {
  readonly keyId: string;
  readonly keyAlias: string;
  readonly teamId: string;
  readonly userId: string;
}

/** Before anybody is known. */
export const nobody: Owner = { keyId: "", keyAlias: "", teamId: "", userId: "" };

/** Where an attempt is made: names of the configuration, and none that callers choose. */
export interface Target {
  readonly deploymentId: string;
  readonly provider: string;
  /** The model as configured, with its `*` if it has one. */
  readonly model: string;
  /** "" for the provider's own address. */
  readonly apiBase: string;
  readonly modelGroup: string;
}

/** Calls that had all of this in common. */
export class CallCell {
  readonly owner: Owner;
  /** The group that was asked for; "other" before one was found. */
  readonly model: string;
  readonly route: string;
  readonly stream: boolean;
  /** An error code, or "ok". */
  readonly code: string;
  /** Of the last attempt; "none" without one, "cache" for an answer given again. */
  readonly provider: string;
  readonly isFallback: boolean;
  count = 0;
  readonly durations = new Histogram(callBoundsS);
  readonly overheads = new Histogram(overheadBoundsS);

  constructor([owner, model, route, stream, code, provider, isFallback]: CallPath) {
    this.owner = owner;
    this.model = model;
    this.route = route;
    this.stream = stream;
    this.code = code;
    this.provider = provider;
    this.isFallback = isFallback;
  }
}

/** Attempts that had all of this in common. */
export class AttemptCell {
  readonly owner: Owner;
  readonly target: Target;
  /** The group that was asked for. */
  readonly requested: string;
  /** An error code, or "ok". */
  readonly outcome: string;
  count = 0;
  inputTokens = 0;
  outputTokens = 0;
  cacheReadTokens = 0;
  cacheWriteTokens = 0;
  reasoningTokens = 0;
  /** Nano-dollars: whole numbers add up without a rest. */
  costNanos = 0;
  readonly durations = new Histogram(callBoundsS);
  readonly firstOutputs = new Histogram(firstOutputBoundsS);
  readonly perToken = new Histogram(perTokenBoundsS);

  constructor([owner, target, requested, outcome]: AttemptPath) {
    this.owner = owner;
    this.target = target;
    this.requested = requested;
    this.outcome = outcome;
  }
}

/** Changes of the group that had all of this in common. */
export class FallbackCell {
  readonly from: string;
  readonly to: string;
  /** An error code. */
  readonly reason: string;
  /** Whether the call was answered there in the end. */
  readonly isAnswered: boolean;
  count = 0;

  constructor([from, to, reason, isAnswered]: FallbackPath) {
    this.from = from;
    this.to = to;
    this.reason = reason;
    this.isAnswered = isAnswered;
  }
}

type CallPath = readonly [Owner, string, string, boolean, string, string, boolean];
type AttemptPath = readonly [Owner, Target, string, string];
type FallbackPath = readonly [string, string, string, boolean];

/** Everything that was counted of calls since the start. */
export class CallCells {
  readonly calls = new Cells<CallPath, CallCell>((path) => new CallCell(path));
  readonly attempts = new Cells<AttemptPath, AttemptCell>((path) => new AttemptCell(path));
  readonly fallbacks = new Cells<FallbackPath, FallbackCell>((path) => new FallbackCell(path));
  readonly #owners = new Map<string, Owner>();
  readonly #others = new Map<string, Owner>();
  readonly #targets = new Map<string, Target>();
  inFlight = 0;
  /** Calls whose key was not told apart. */
  overflows = 0;

  /** The one owner with these names; past the bound, one for all keys of a team. */
  owner(keyId: string, keyAlias = "", teamId = "", userId = ""): Owner {
    const known = this.#owners.get(keyId);
    if (known !== undefined && known.keyAlias === keyAlias && known.teamId === teamId && known.userId === userId)
      return known;
    // A key that was renamed goes on under its new name.
    if (known === undefined && this.#owners.size >= ownersMax) return this.#other(teamId);
    const owner = { keyId, keyAlias, teamId, userId };
    this.#owners.set(keyId, owner);
    return owner;
  }

  /** The one target with these names. */
  target(given: Target): Target {
    const model = given.modelGroup.includes("*") ? given.modelGroup : given.model;
    const known = this.#targets.get(given.deploymentId);
    if (known !== undefined && known.model === model && known.modelGroup === given.modelGroup) return known;
    const target = { ...given, model, apiBase: withoutCredentials(given.apiBase) };
    this.#targets.set(given.deploymentId, target);
    return target;
  }

  callCell(path: CallPath): CallCell {
    const [owner, ...rest] = path;
    return this.calls.at(path) ?? this.calls.make([this.#other(owner.teamId), ...rest]);
  }

  attemptCell(path: AttemptPath): AttemptCell {
    const [owner, ...rest] = path;
    return this.attempts.at(path) ?? this.attempts.make([this.#other(owner.teamId), ...rest]);
  }

  #other(teamId: string): Owner {
    this.overflows += 1;
    const known = this.#others.get(teamId);
    if (known !== undefined) return known;
    if (teamId !== "" && teamId !== "other" && this.#others.size >= ownersMax) return this.#other("other");
    const owner = { keyId: "other", keyAlias: "other", teamId, userId: "other" };
    this.#others.set(teamId, owner);
    return owner;
  }
}

type Branches = Map<unknown, Branches | unknown>;

/** Cells by what their members have in common, one map below the other: nothing has to be written to be looked up. */
class Cells<Path extends readonly unknown[], Cell> implements Iterable<Cell> {
  readonly #root: Branches = new Map();
  readonly #all: Cell[] = [];
  readonly #create: (path: Path) => Cell;

  constructor(create: (path: Path) => Cell) {
    this.#create = create;
  }

  [Symbol.iterator](): Iterator<Cell> {
    return this.#all[Symbol.iterator]();
  }

  /** @returns undefined if it would be one too many. */
  at(path: Path): Cell | undefined {
    const known = this.#find(path);
    return known ?? (this.#all.length < cellsMax ? this.make(path) : undefined);
  }

  /** Whether or not it is one too many. */
  make(path: Path): Cell {
    const known = this.#find(path);
    if (known !== undefined) return known;
    let branches = this.#root;
    for (const step of path.slice(0, -1)) {
      const next = (branches.get(step) as Branches | undefined) ?? new Map();
      branches.set(step, next);
      branches = next;
    }
    const cell = this.#create(path);
    branches.set(path.at(-1), cell);
    this.#all.push(cell);
    return cell;
  }

  #find(path: Path): Cell | undefined {
    let found: unknown = this.#root;
    for (const step of path) {
      found = (found as Branches).get(step);
      if (found === undefined) return undefined;
    }
    return found as Cell;
  }
}

function withoutCredentials(address: string): string {
  const url = URL.parse(address);
  return url === null ? "" : `${url.origin}${url.pathname}`;
}
