import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Roster, type Rostered } from "../src/roster.ts";

interface Member extends Rostered {
  readonly name: string;
}

const member = (name: string): Member => ({ name, rosterIndex: undefined });
const names = (roster: Roster<Member>) =>
  roster
    .all()
    .map(({ name }) => name)
    .sort();

describe("a roster", () => {
  it("has those who came and did not leave, whoever left between them", () => {
    const roster = new Roster<Member>();
    const [a, b, c, d] = ["a", "b", "c", "d"].map(member) as [Member, Member, Member, Member];
    for (const each of [a, b, c, d]) roster.add(each);
    roster.delete(b);
    assert.deepEqual(names(roster), ["a", "c", "d"]);
    roster.delete(d);
    roster.delete(a);
    assert.deepEqual(names(roster), ["c"]);
    roster.add(b);
    assert.deepEqual(names(roster), ["b", "c"]);
    assert.equal(roster.size, 2);
  });

  it("lets a member leave once, and one that was never there not at all", () => {
    const roster = new Roster<Member>();
    const [a, b] = [member("a"), member("b")];
    roster.add(a);
    roster.delete(b);
    roster.delete(a);
    roster.delete(a);
    assert.equal(roster.size, 0);
  });

  it("lets members leave while they are gone through", () => {
    const roster = new Roster<Member>();
    for (const name of ["a", "b", "c"]) roster.add(member(name));
    const seen: string[] = [];
    for (const each of roster.all()) {
      seen.push(each.name);
      roster.delete(each);
    }
    assert.deepEqual(seen, ["a", "b", "c"]);
    assert.equal(roster.size, 0);
  });
});
