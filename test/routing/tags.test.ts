import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { tagFilter } from "../../src/routing/tags.ts";
import { sampleAsk, sampleDeployments } from "./sample-candidates.ts";

const paid = ["paid", "eu"];
const free = ["free"];
const standard = ["default"];

/** The tags of deployments, those of a call, and which deployments are left: of those that have one of its tags, or all. */
const rows: readonly [string, readonly (readonly string[] | undefined)[], readonly string[], number[], number[]?][] = [
  ["goes where its tag is", [paid, free, standard], ["free"], [1]],
  ["goes where one of its tags is, or all are", [paid, free, ["eu", "free"]], ["eu", "free"], [0, 1, 2], [2]],
  ["may have fewer tags than a deployment", [paid, free], ["eu"], [0]],
  ["has a tag that nobody has, and one that is had", [paid, free, standard], ["x", "paid"], [0], [2]],
  ["whose tags nobody has goes to the default", [paid, free, standard, ["default", "x"]], ["y"], [2, 3]],
  ["whose tags nobody has goes nowhere without a default", [paid, free, undefined], ["y"], []],
  ["without tags goes to the default", [paid, undefined, standard], [], [2]],
  ["without tags goes anywhere without a default", [paid, undefined, free], [], [0, 1, 2]],
  ["may ask for the default", [paid, standard], ["default"], [1]],
  ["does not go where nothing is said", [undefined, free], ["free"], [1]],
  ["with tags needs deployments with tags", [undefined, undefined], ["free"], []],
  ["looks at letters exactly", [["Free"], standard], ["free"], [1]],
];

describe("a call", () => {
  for (const [name, tags, asked, ofAny, ofAll = ofAny] of rows) {
    test(`that is tagged ${name}`, () => {
      const deployments = sampleDeployments(tags.map((own) => (own === undefined ? {} : { tags: own })));
      for (const [matchAny, left] of [
        [true, ofAny],
        [false, ofAll],
      ] as const) {
        const excluded = tagFilter({ matchAny })(deployments, sampleAsk({}, { tags: asked }));
        const ids = excluded.map(({ deployment }) => Number(deployment.id));
        assert.deepEqual(
          ids,
          deployments.map(({ id }) => Number(id)).filter((id) => !left.includes(id)),
          matchAny ? "any" : "all",
        );
        assert.ok(excluded.every(({ reason, retryAfterMs }) => reason === "tags" && retryAfterMs === undefined));
      }
    });
  }
});
