/** `npm run generate:dashboards`: writes the dashboards beside this file anew. */

import { writeFileSync } from "node:fs";
import { buildDashboard } from "./board.ts";
import { boards } from "./boards.ts";

for (const [name, board] of Object.entries(boards)) {
  const file = new URL(`dashboards/${name}.json`, import.meta.url);
  writeFileSync(file, `${JSON.stringify(buildDashboard(board), null, 2)}\n`);
}
