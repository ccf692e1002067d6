#!/usr/bin/env node
/**
 * The `tollgate` command. It sees to it that Node is new enough, going over to the one that npm installed beside this package
 * where there is one, and runs the program: compiled where it was installed as a package, from source in a clone.
 */
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const needed = 24;
const here = dirname(fileURLToPath(import.meta.url));
// Node does not run TypeScript that lies under node_modules.
const isPackage = here.split(sep).includes("node_modules");

if (Number.parseInt(process.versions.node, 10) >= needed) {
  await import(isPackage ? "../dist/sidecar/main.js" : "./main.ts");
} else {
  runWith(installedNode());
}

function installedNode() {
  try {
    const manifest = createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/package.json`);
    return join(dirname(manifest), "bin", "node");
  } catch {
    return undefined;
  }
}

/** Stands between the caller and the newer Node: passes signals on, and ends as it ends. */
function runWith(node) {
  if (node === undefined) {
    const fix = isPackage ? "" : " In a clone, `npm ci` brings it along.";
    process.stderr.write(
      `tollgate needs Node ${needed} or later, and this is ${process.version}.${fix} See https://nodejs.org/.\n`,
    );
    process.exitCode = 1;
    return;
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    process.stderr.write(`tollgate: ${node} does not run: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}
