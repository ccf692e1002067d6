import { bucketWidthMs, correctionOf, counterKey } from "./claims.ts";
import type { WindowClaim } from "./counters.ts";
import type { Correction } from "./giving-back.ts";

/** An advance is at most this fraction of what remained, and leaves half of the ceiling untouched. */
const fractionMax = 1 / 64;
const untouchedMin = 1 / 2;
/** What would do for fewer calls is not taken: limits so small, and keys so seldom used, are asked call by call. */
const callsWorthMin = 4;
/** Longer windows have buckets so long that clocks could drift apart meanwhile, in milliseconds. */
const windowMaxMs = 60_000;
/** Redis tells whole milliseconds, and two clocks do not run quite alike: so much earlier an advance is over, in milliseconds. */
const marginMs = 6;
/** How long calls must have come for it to be told how many more will, in milliseconds: some that come at once may be all. */
const paceSpanMinMs = 50;

/** What a store told when it granted a claim. */
interface Told {
  /** So much more was taken with it. */
  readonly extra: number;
  /** What is left of the limit after that. */
  readonly remaining: number;
  /** When, by the store's clock, in milliseconds. */
  readonly storeMs: number;
  /** When it was asked, by the pod's monotonic clock, in milliseconds: no later than that. */
  readonly askedMs: number;
}

/**
 * What this pod has taken of one window within one bucket of it, some of it before there were calls for it.
 *
 * A bucket counts in full until its youngest entry is older than the window. So whatever is drawn while the bucket lasts, by the
 * store's clock, is as if it had been taken at that moment.
 */
export class Advance {
  readonly bucket: number;
  readonly ceiling: number;
  /** What calls of this pod asked for in the bucket before. */
  readonly amountBefore: number;
  readonly #key: string;
  #endMs = Number.NEGATIVE_INFINITY;
  #available = 0;
  #amount = 0;
  /** What the first call asked for, and when by the pod's monotonic clock. */
  #first: { readonly amount: number; readonly askedMs: number } | undefined;
  /** What is left of the limit besides what is available here, as last told. */
  #remaining = 0;
  /** By how much the bucket must be changed in the store. */
  #owed = 0;

  constructor(parts: { key: string; bucket: number; ceiling: number; amountBefore: number }) {
    this.#key = parts.key;
    this.bucket = parts.bucket;
    this.ceiling = parts.ceiling;
    this.amountBefore = parts.amountBefore;
  }

  /** What is taken and no call has drawn. */
  get available(): number {
    return this.#available;
  }

  /** What calls asked for in this bucket. */
  get amount(): number {
    return this.#amount;
  }

  /** Till when it may be drawn, by the pod's monotonic clock. */
  get endMs(): number {
    return this.#endMs;
  }

  /** What is left of the limit for the next call of this pod. */
  get remaining(): number {
    return this.#remaining + this.#available;
  }

  /** How much calls ask for in a millisecond; 0 if it cannot be told yet. */
  paceAt(nowMs: number): number {
    const { amount = 0, askedMs = nowMs } = this.#first ?? {};
    return nowMs - askedMs < paceSpanMinMs ? 0 : (this.#amount - amount) / (nowMs - askedMs);
  }

  /** Whether a claim could be served from it. */
  covers({ amount, ceiling }: WindowClaim, nowMs: number): boolean {
    return nowMs < this.#endMs && amount <= this.#available && ceiling === this.ceiling && isDrawable(amount);
  }

  /** Only what it covers. */
  draw(amount: number): void {
    this.#available -= amount;
    this.#amount += amount;
  }

  /** The take that drew last came to nothing. */
  undraw(amount: number): void {
    this.#available += amount;
    this.#amount -= amount;
  }

  /** A call was granted its own amount, and something in advance. */
  granted(amount: number, widthMs: number, { extra, remaining, storeMs, askedMs }: Told): void {
    // Of two answers both are right, and the quicker one's is the later.
    this.#endMs = Math.max(this.#endMs, askedMs + (this.bucket + 1) * widthMs - storeMs - marginMs);
    this.#first ??= { amount, askedMs };
    this.#amount += amount;
    this.#available += extra;
    this.#remaining = remaining;
    // Others have been quick: what is here may be what they will lack.
    if (remaining < this.ceiling * untouchedMin) this.#giveBack(this.#available);
  }

  /** A call that was served from it has used `used`; undefined: what it claimed. */
  used(claim: WindowClaim, used: number | undefined, nowMs: number): void {
    const change = correctionOf(claim, used);
    if (nowMs >= this.#endMs) {
      this.#owed += change;
    } else if (change > 0) {
      const covered = Math.min(change, this.#available);
      this.#available -= covered;
      this.#owed += change - covered;
    } else {
      this.#available -= change;
      this.#giveBack(this.#available - boundOf(this.ceiling, this.#remaining, 0));
    }
  }

  /** Nothing more is drawn from it. */
  end(): void {
    this.#endMs = Number.NEGATIVE_INFINITY;
    this.#giveBack(this.#available);
  }

  /** What the store is to be told by now; undefined: nothing. It is taken for told. */
  due(nowMs: number): Correction | undefined {
    if (nowMs >= this.#endMs) this.#giveBack(this.#available);
    if (this.#owed === 0) return undefined;
    const correction = { key: this.#key, bucket: this.bucket, change: this.#owed };
    this.#owed = 0;
    return correction;
  }

  #giveBack(amount: number): void {
    if (amount <= 0) return;
    this.#available -= amount;
    this.#owed -= amount;
    this.#remaining += amount;
  }
}

/** What this pod takes of one window, from bucket to bucket. */
export class Demand {
  readonly name: string;
  readonly windowMs: number;
  /** While more is being asked for, other calls ask for their own amounts. */
  isAsking = false;
  readonly #key: string;
  readonly #widthMs: number;
  #askedMs: number;
  #advance: Advance | undefined;

  constructor(claim: WindowClaim, nowMs: number) {
    this.name = claim.name;
    this.windowMs = claim.windowMs;
    this.#key = counterKey(claim);
    this.#widthMs = bucketWidthMs(claim.windowMs);
    this.#askedMs = nowMs;
  }

  /** Of the last bucket that something was taken in. */
  get advance(): Advance | undefined {
    return this.#advance;
  }

  /** Whether it has not been asked for in a while: an advance lasts a bucket, and what was learned of it one more. */
  isIdle(nowMs: number): boolean {
    return nowMs > this.#askedMs + 3 * this.#widthMs;
  }

  /** A claim was granted, and something in advance. @returns where it is drawn from. */
  granted(claim: WindowClaim, told: Told): Advance {
    const advance = this.#advanceAt(claim, told);
    advance.granted(claim.amount, this.#widthMs, told);
    return advance;
  }

  /**
   * How much to ask for besides what a claim is for: about as much as calls will ask for in this bucket if they go on as they do in it,
   * or as in the last one.
   *
   * @returns undefined if each call had better ask for itself: there are few of them, or it would serve few.
   */
  extraFor({ amount, ceiling, windowMs }: WindowClaim, nowMs: number): number | undefined {
    const advance = this.#advance;
    if (advance === undefined || advance.ceiling !== ceiling || this.isAsking) return undefined;
    if (windowMs > windowMaxMs || !isDrawable(amount)) return undefined;
    const restMs = advance.endMs - nowMs;
    if (restMs <= -this.#widthMs) return undefined;
    const isOver = restMs <= 0;
    // The bucket is about to end: what is taken now might still be of it, and be over before it is there.
    if (isOver && restMs > -2 * marginMs) return undefined;
    const pace = Math.max(advance.amount / this.#widthMs, advance.amountBefore / this.#widthMs, advance.paceAt(nowMs));
    const wanted = isOver ? advance.amount : Math.ceil(pace * restMs);
    const available = isOver ? 0 : advance.available;
    const aim = Math.min(wanted, boundOf(ceiling, advance.remaining, amount));
    return aim < callsWorthMin * amount ? undefined : Math.max(0, aim - available);
  }

  /** That of the bucket in which a claim was granted; another one than before is over. */
  #advanceAt({ ceiling }: WindowClaim, { storeMs, askedMs }: Told): Advance {
    this.#askedMs = askedMs;
    const bucket = Math.floor(storeMs / this.#widthMs);
    const last = this.#advance;
    if (last?.bucket === bucket && last.ceiling === ceiling) return last;
    last?.end();
    const amountBefore = last?.bucket === bucket - 1 ? last.amount : 0;
    this.#advance = new Advance({ key: this.#key, bucket, ceiling, amountBefore });
    return this.#advance;
  }
}

/** The most that may be taken in advance besides `amount`. */
function boundOf(ceiling: number, remaining: number, amount: number): number {
  const spare = remaining - amount - ceiling * untouchedMin;
  return Math.max(0, Math.floor(Math.min(remaining * fractionMax, spare)));
}

/** Whoever claims nothing wants to know how things stand, which only the store can say. */
function isDrawable(amount: number): boolean {
  return amount > 0 && Number.isSafeInteger(amount);
}
