import type { Clock } from "../../src/clock.ts";
import type {
  Authority,
  Grant,
  KeyNews,
  LeaseAnswer,
  LeaseAsk,
  LeaseReturn,
  Party,
  PartyGrant,
  SpendRecord,
} from "../../src/keys/authority.ts";

/** The unary RPCs a sidecar asks while it runs. */
export const rpcNames = ["resolve", "acquire", "renew", "giveBack", "settle"] as const;
export type RpcName = (typeof rpcNames)[number];

/** What one kind of RPC did. */
export interface RpcFigures {
  readonly tookMs: number[];
  failures: number;
}

/** Counts what a sidecar asks of its KeyService, and how long the answers take. */
export class CountingAuthority implements Authority {
  readonly #inner: Authority;
  readonly #clock: Clock;
  readonly #onChange: (change: KeyNews) => void;
  #figures = noFigures();

  constructor(parts: {
    readonly inner: Authority;
    readonly clock: Clock;
    readonly onChange?: (change: KeyNews) => void;
  }) {
    this.#inner = parts.inner;
    this.#clock = parts.clock;
    this.#onChange = parts.onChange ?? (() => {});
  }

  /** What was asked since the last time. */
  takeFigures(): Record<RpcName, RpcFigures> {
    const figures = this.#figures;
    this.#figures = noFigures();
    return figures;
  }

  resolve(keySha256: Buffer): Promise<Grant | undefined> {
    return this.#count("resolve", () => this.#inner.resolve(keySha256));
  }

  resolveParties(parties: readonly Party[]): Promise<{ parties: readonly PartyGrant[]; version: bigint }> {
    return this.#inner.resolveParties(parties);
  }

  acquire(ask: LeaseAsk): Promise<LeaseAnswer> {
    return this.#count("acquire", () => this.#inner.acquire(ask));
  }

  renew(leaseIds: readonly string[]): Promise<{ ttlMs: number; ended: readonly string[] }> {
    return this.#count("renew", () => this.#inner.renew(leaseIds));
  }

  giveBack(returns: readonly LeaseReturn[]): Promise<void> {
    return this.#count("giveBack", () => this.#inner.giveBack(returns));
  }

  settle(records: readonly SpendRecord[]): Promise<void> {
    return this.#count("settle", () => this.#inner.settle(records));
  }

  async *watch(sinceVersion: bigint, signal: AbortSignal): AsyncIterable<KeyNews> {
    for await (const change of this.#inner.watch(sinceVersion, signal)) {
      this.#onChange(change);
      yield change;
    }
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #count<Answer>(name: RpcName, ask: () => Promise<Answer>): Promise<Answer> {
    const figures = this.#figures[name];
    const sentAtMs = this.#clock.monotonicMs();
    try {
      return await ask();
    } catch (error) {
      figures.failures++;
      throw error;
    } finally {
      figures.tookMs.push(this.#clock.monotonicMs() - sentAtMs);
    }
  }
}

function noFigures(): Record<RpcName, RpcFigures> {
  const figures = (): RpcFigures => ({ tookMs: [], failures: 0 });
  return { resolve: figures(), acquire: figures(), renew: figures(), giveBack: figures(), settle: figures() };
}
