import type { Authority, Party, PartyGrant } from "./authority.ts";
import { AuthorityUnavailable } from "./authority.ts";
import { Recent } from "./recent.ts";

/** An answer older than a change already seen is asked for again, so often at most. */
const asksMax = 3;

interface Kept {
  readonly grant: PartyGrant;
  readonly readAtMs: number;
}

/** What Parties is made of. */
export interface PartiesParts {
  readonly authority: Pick<Authority, "resolveParties">;
  readonly monotonicMs: () => number;
  /** Whether what was read at a moment (monotonic, milliseconds) may still be believed. */
  readonly isFresh: (readAtMs: number) => boolean;
  /** The most of them kept. */
  readonly capacity: number;
}

/** What holds for end users and tags: copies of what the KeyService says, those of parties it does not know included. */
export class Parties {
  readonly #parts: PartiesParts;
  readonly #kept: Recent<Kept>;
  /** The version of each party's last change, so that a slow answer cannot bring back what a change has dropped. */
  readonly #changes = new Recent<bigint>(10_000);
  readonly #flights = new Map<string, Promise<PartyGrant>>();
  /** Counts resets. */
  #epoch = 0;

  constructor(parts: PartiesParts) {
    this.#parts = parts;
    this.#kept = new Recent(Math.max(1, Math.floor(parts.capacity / 2)));
  }

  /**
   * What holds for each party, at once if all are known.
   *
   * @throws AuthorityUnavailable (as a rejection) if the KeyService has to be asked and cannot be.
   */
  resolve(parties: readonly Party[]): readonly PartyGrant[] | Promise<readonly PartyGrant[]> {
    const found = parties.map((party) => this.#known(questionOf(party)) ?? party);
    if (found.every(isGrant)) return found;
    return Promise.all(found.map((each) => (isGrant(each) ? each : this.#fetch(each))));
  }

  /** Something about a party has changed. */
  drop(party: Party, version: bigint): void {
    this.#changes.set(nameOf(party), version);
    this.#kept.delete(nameOf(party));
  }

  clear(): void {
    this.#epoch++;
    this.#kept.clear();
    this.#changes.clear();
  }

  #known(name: string): PartyGrant | undefined {
    const kept = this.#kept.get(name);
    return kept !== undefined && this.#parts.isFresh(kept.readAtMs) ? kept.grant : undefined;
  }

  #fetch(party: Party): Promise<PartyGrant> {
    const name = questionOf(party);
    const flying = this.#flights.get(name);
    if (flying !== undefined) return flying;
    const flight = this.#ask(party, name).finally(() => this.#flights.delete(name));
    this.#flights.set(name, flight);
    return flight;
  }

  async #ask(party: Party, name: string): Promise<PartyGrant> {
    const { authority, monotonicMs } = this.#parts;
    for (let ask = 1; ask <= asksMax; ask++) {
      const epoch = this.#epoch;
      const readAtMs = monotonicMs();
      const { parties, version } = await authority.resolveParties([party]);
      const [grant] = parties;
      if (grant === undefined || epoch !== this.#epoch || version < (this.#changes.get(name) ?? 0n)) continue;
      this.#kept.set(name, { grant, readAtMs });
      return grant;
    }
    throw new AuthorityUnavailable(new Error("The KeyService's answers are older than its changes."));
  }
}

function nameOf({ scope, id }: Pick<Party, "scope" | "id">): string {
  return `${scope} ${id}`;
}

/** Another budget of the configuration is another question. */
function questionOf(party: Party): string {
  return party.max === undefined ? nameOf(party) : `${nameOf(party)} ${party.max} ${party.window}`;
}

function isGrant(party: Party | PartyGrant): party is PartyGrant {
  return "budgets" in party;
}
