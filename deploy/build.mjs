/**
 * Builds `dist/`, what the npm package and the image run: compiled programs, and beside them the files they read. Run by
 * `npm run build`, before packing.
 */
import { spawnSync } from "node:child_process";
import { cpSync, globSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const readAtRunTime = [
  "package.json",
  "deploy/config.demo.yaml",
  ...globSync(["src/**/*.lua", "src/**/*.sql", "src/**/*.json", "src/**/*.binpb", "sidecar/**/*.sql"], { cwd: root }),
];

rmSync(join(root, "dist"), { recursive: true, force: true });
const compiler = spawnSync("tsc", ["-p", "deploy/tsconfig.package.json"], { cwd: root, stdio: ["ignore", 2, 2] });
if (compiler.status !== 0) process.exit(1);
for (const file of readAtRunTime) cpSync(join(root, file), join(root, "dist", file));
