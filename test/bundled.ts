import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const bundler = fileURLToPath(new URL("../deploy/bundle.mjs", import.meta.url));

/** Makes the programs as the image has them, in a folder. @returns their file. */
export function bundled(folder: string): string {
  const made = spawnSync(process.execPath, [bundler, folder], { stdio: "inherit" });
  if (made.status !== 0) throw new Error("the programs could not be bundled");
  return join(folder, "sidecar/main.js");
}
