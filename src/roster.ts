/** What can be in a Roster. */
export interface Rostered {
  /** Where it is in there; the roster's own. */
  rosterIndex: number | undefined;
}

/**
 * A set whose members come and go with every call. A Set or a Map makes its table anew as it is added to and deleted from, and each old
 * table knows the next: once one of them has lived for long, everything that was in the later ones lives until the whole heap is looked
 * through, and what should die young is copied again and again.
 */
export class Roster<Member extends Rostered> {
  readonly #members: Member[] = [];

  get size(): number {
    return this.#members.length;
  }

  /** In no order. While they are gone through, members may leave. */
  all(): readonly Member[] {
    return [...this.#members];
  }

  /** @param member is in no roster. */
  add(member: Member): void {
    member.rosterIndex = this.#members.push(member) - 1;
  }

  /** @param member is in this roster, or in none: then nothing happens. */
  delete(member: Member): void {
    const index = member.rosterIndex;
    if (index === undefined) return;
    member.rosterIndex = undefined;
    const last = this.#members.pop();
    if (last === undefined || last === member) return;
    last.rosterIndex = index;
    this.#members[index] = last;
  }
}
