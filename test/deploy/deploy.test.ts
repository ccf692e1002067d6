import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { environment, nodeFlags } from "../../deploy/runtime.ts";
import { check } from "../../sidecar/check.ts";
import { administer } from "../../sidecar/cli/administer.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const readme = readFileSync(`${root}deploy/README.md`, "utf8");
const dockerfile = readFileSync(`${root}deploy/Dockerfile`, "utf8");

test("what deploy/README.md links to and runs is there", () => {
  for (const [, path] of readme.matchAll(/\]\(([^)#]+)\)/g)) assert.ok(existsSync(`${root}deploy/${path}`), path);
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as { scripts: Record<string, string> };
  for (const [, script] of readme.matchAll(/npm run ([\w:]+)/g)) assert.ok(scripts[script ?? ""], script);
  for (const [, files] of readme.matchAll(/npm test -- ([^\s`]+)/g)) {
    assert.notEqual(globSync(files ?? "", { cwd: root }).length, 0, files);
  }
});

test("every tollgate command in deploy/README.md is one", async () => {
  const commands = new Set(
    [...readme.matchAll(/\btollgate (keys|spend|audit) (\w+)/g)].map(([, ...words]) => words.join(" ")),
  );
  assert.ok(commands.size >= 4);
  for (const command of commands) {
    const [resource = "", verb = ""] = command.split(" ");
    let help = "";
    const stdout = { write: (text: string) => (help += text) };
    await administer([resource, "--help"], { stdout, stderr: stdout, settings: () => assert.fail("help needs none") });
    assert.match(help, new RegExp(`^ +${verb}\\b`, "m"), command);
  }
});

test("the configurations that are deployed are good, and say nothing that does not act", async () => {
  const env = { OPENAI_API_KEY: "x", ANTHROPIC_API_KEY: "x", REDIS_PASSWORD: "x" };
  for (const file of ["config.demo.yaml", "kubernetes/sidecar/config.yaml", "kubernetes/gateway/config.yaml"]) {
    let said = "";
    const out = { write: (text: string) => (said += text) };
    const code = await check([`${root}deploy/${file}`], { stdout: out, stderr: out, env });
    assert.equal(code, 0, said);
    assert.doesNotMatch(said, /notice|not served|left out/i, file);
  }
});

test("the Dockerfile begins from one image, by digest, and ends with none", () => {
  const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base);
  assert.deepEqual(
    bases.map((base) => base?.replace("$", "")),
    ["{NODE_IMAGE}", "scratch"],
  );
  assert.match(dockerfile, /^ARG NODE_IMAGE=docker\.io\/library\/node:24\.\d+\.\d+-[\w-]+@sha256:[0-9a-f]{64}$/m);
  const lastStage = dockerfile.slice(dockerfile.lastIndexOf("FROM scratch"));
  assert.match(lastStage, /^USER 65532:65532$/m);
  assert.doesNotMatch(lastStage, /^(?:RUN|ADD|SHELL) /m);
  assert.doesNotMatch(dockerfile, /:latest|curl|wget|\bADD\b/);
});

test("the image runs Node as the bench does", () => {
  // Linux gives a program all that stands after its interpreter's name as one argument.
  assert.equal(nodeFlags.length, 1);
  assert.match(dockerfile, new RegExp(`'#!/usr/bin/node ${nodeFlags[0]}\\\\n`));
  const set = [...dockerfile.matchAll(/^ENV (.+)$/gm)].flatMap(([, variables]) => variables?.split(" ") ?? []);
  for (const [name, value] of Object.entries(environment)) assert.ok(set.includes(`${name}=${value}`), name);
});

test("only what the image is made of goes to its build", () => {
  const [everything, ...taken] = readFileSync(`${root}.dockerignore`, "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
  assert.equal(everything, "*");
  for (const line of taken) {
    assert.match(line, /^!/);
    assert.ok(existsSync(root + line.slice(1)), line);
  }
});
