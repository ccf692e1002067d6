import type { Grant } from "./authority.ts";

/** A grant, and when it was read (monotonic, milliseconds). */
export interface KeptGrant {
  readonly grant: Grant;
  readonly readAtMs: number;
}

class Generation {
  readonly kept = new Map<string, KeptGrant>();
  /** Where the copies of a key's grant are; several while a key's secret is being replaced. */
  readonly digests = new Map<string, Set<string>>();

  put(digest: string, kept: KeptGrant): void {
    this.kept.set(digest, kept);
    const known = this.digests.get(kept.grant.keyId);
    if (known === undefined) this.digests.set(kept.grant.keyId, new Set([digest]));
    else known.add(digest);
  }

  drop(keyId: string): void {
    const digests = this.digests.get(keyId);
    if (digests === undefined) return;
    for (const digest of digests) this.kept.delete(digest);
    this.digests.delete(keyId);
  }
}

/**
 * Grants by the digest of their token, bounded: when the young generation is full it becomes the old one, and the old one is
 * forgotten. A hit changes nothing, save that the first one after such a turn copies its grant to the young; touching a Map
 * on every hit, as an LRU does, costs more than all the rest of the lookup.
 */
export class GrantCache {
  readonly #generationSize: number;
  #young = new Generation();
  #old = new Generation();

  /** @param capacity the most grants kept. */
  constructor(capacity: number) {
    this.#generationSize = Math.max(1, Math.floor(capacity / 2));
  }

  get(digest: string): KeptGrant | undefined {
    const young = this.#young.kept.get(digest);
    if (young !== undefined) return young;
    const old = this.#old.kept.get(digest);
    if (old !== undefined) this.put(digest, old);
    return old;
  }

  put(digest: string, kept: KeptGrant): void {
    if (this.#young.kept.size >= this.#generationSize && !this.#young.kept.has(digest)) {
      this.#old = this.#young;
      this.#young = new Generation();
    }
    this.#young.put(digest, kept);
  }

  /** Forgets a key's grant, whatever token it was found by. */
  dropKey(keyId: string): void {
    this.#young.drop(keyId);
    this.#old.drop(keyId);
  }

  /** Forgets every grant that something is true of; looks at all of them. */
  dropWhere(isMeant: (grant: Grant) => boolean): void {
    for (const generation of [this.#young, this.#old]) {
      for (const { grant } of generation.kept.values()) if (isMeant(grant)) generation.drop(grant.keyId);
    }
  }

  clear(): void {
    this.#young = new Generation();
    this.#old = new Generation();
  }
}
