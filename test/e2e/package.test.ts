import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const root = new URL("../..", import.meta.url).pathname;

test("the packed package runs its program and exports a client, without this repository's sources", () => {
  const directory = mkdtempSync(join(tmpdir(), "tollgate-package-"));
  try {
    run("npm", ["run", "build"], root);
    run("npm", ["pack", "--pack-destination", directory], root);
    const [tarball] = readdirSync(directory);
    assert.ok(tarball);
    run("tar", ["-xzf", tarball], directory);
    // As npm would lay it out, with the dependencies this repository has.
    mkdirSync(join(directory, "app/node_modules"), { recursive: true });
    run("mv", ["package", "app/node_modules/tollgate"], directory);
    symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
    const app = join(directory, "app");
    assert.match(run(process.execPath, ["node_modules/tollgate/sidecar/tollgate.mjs", "version"], app), /^tollgate \d/);
    writeFileSync(
      join(app, "app.mjs"),
      `import { createCompletionClient, Role } from "tollgate/client";
       const client = createCompletionClient({ apiKey: "sk-x", baseUrl: "http://127.0.0.1:1", retries: 0 });
       await client.complete({ chat: { model: "m", messages: [{ role: Role.USER, text: "x" }] } }).catch((error) => console.log(error.code));`,
    );
    assert.equal(run(process.execPath, ["app.mjs"], app).trim(), "14");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

function run(program: string, args: readonly string[], cwd: string): string {
  const result = spawnSync(program, args, { cwd, encoding: "utf8", timeout: 120_000 });
  assert.equal(result.status, 0, `${program} ${args.join(" ")}: ${result.stdout}${result.stderr}`);
  return result.stdout;
}
