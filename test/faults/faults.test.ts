import { after, before, describe, it } from "node:test";
import { Scene } from "./row.ts";
import { rows } from "./rows.ts";
import { World } from "./world.ts";

/** Of traffic a row; the whole matrix is `npm run test:faults`. */
const seconds = 4;

describe("the fault matrix, its short form", () => {
  let world: World;
  before(async () => {
    world = await World.start();
  });
  after(() => world.close());

  for (const row of rows.filter(({ isQuick }) => isQuick)) {
    it(`${row.name}: ${row.fault}`, async () => {
      await row.run(new Scene({ world, seconds, isQuick: true }));
    });
  }
});
