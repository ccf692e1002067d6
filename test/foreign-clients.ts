import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync } from "node:fs";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { claimDataDirectory } from "../sidecar/embedded-postgres-owner.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = join(root, "test/clients");
const cache = join(root, ".cache/clients");
const protos = "proto/**/*.proto";

/** Whether the machine has a tool that a recipe starts from; if not, why the test is skipped. */
export function skipWithout(tool: "python3" | "go"): string | false {
  const { status } = spawnSync(tool, [tool === "go" ? "version" : "--version"]);
  return status === 0 ? false : `there is no ${tool} on this machine: the ${tool} client is NOT tested`;
}

/** The packages of a client could not be fetched: whoever wants it says so and goes without. */
export class PackagesMissing extends Error {}

/** Runs one of our programs and gives the JSON it prints. */
type RunProgram = (program: string, args: readonly string[], env?: NodeJS.ProcessEnv) => Promise<unknown>;

/**
 * A Node with the packages of `test/clients/node`: clients too heavy to be installed with the rest, kept in `.cache/`.
 *
 * @throws PackagesMissing
 */
export async function nodeClient(): Promise<RunProgram> {
  const home = join(cache, "node");
  await prepareOnce(home, ["test/clients/node/package-lock.json"], async () => {
    for (const file of ["package.json", "package-lock.json"]) await cp(join(sources, "node", file), join(home, file));
    await fetched("npm", ["ci", "--no-audit", "--no-fund", "--ignore-scripts"], { cwd: home });
  });
  // Packages are looked for from where the program stands.
  await cp(join(sources, "node"), home, { recursive: true });
  return async (program, args, env) =>
    JSON.parse(await run(process.execPath, [join(home, program), ...args], { env: { ...process.env, ...env } }));
}

/**
 * A Python with the openai and grpcio packages, and with a client generated from our protos: the recipe of proto/README.md,
 * carried out once and kept in `.cache/`.
 *
 * @throws PackagesMissing
 */
export async function pythonClient(): Promise<RunProgram> {
  const home = join(cache, "python");
  const python = join(home, "venv/bin/python");
  await prepareOnce(home, [protos, "test/clients/python/requirements.txt"], async () => {
    await run("python3", ["-m", "venv", join(home, "venv")]);
    await fetched(python, ["-m", "pip", "install", "--quiet", "-r", join(sources, "python/requirements.txt")]);
    const output = join(home, "generated");
    await mkdir(output);
    await run(python, [
      ...["-m", "grpc_tools.protoc", "-I", "proto", "-I", "proto/third_party"],
      ...[`--python_out=${output}`, `--grpc_python_out=${output}`],
      ...["tollgate/completion/v1/completion.proto", "buf/validate/validate.proto"],
    ]);
  });
  return async (program, args, env) => {
    const printed = await run(python, [join(sources, "python", program), ...args], {
      env: { ...process.env, PYTHONPATH: join(home, "generated"), ...env },
    });
    return JSON.parse(printed);
  };
}

/**
 * A Go program with a client generated from our protos: the recipe of proto/README.md, carried out once and kept in `.cache/`.
 *
 * @returns runs it and gives the JSON it prints.
 */
export async function goClient(): Promise<(args: readonly string[]) => Promise<unknown>> {
  const home = join(cache, "go");
  const bin = join(home, "bin");
  await prepareOnce(home, [protos, "test/clients/go/*"], async () => {
    await cp(join(sources, "go"), home, { recursive: true });
    await run("go", ["install", "tool"], { cwd: home, env: { ...process.env, GOBIN: bin } });
    const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
    await run("buf", ["generate", "--template", join(home, "buf.gen.yaml"), "--output", home], { env });
    await run("go", ["build", "-o", join(bin, "client"), "."], { cwd: home });
  });
  return async (args) => JSON.parse(await run(join(bin, "client"), args));
}

/** The real grpcurl, built from the Go module proxy once and kept in `.cache/`. @returns runs it and gives what it prints. */
export async function grpcurl(): Promise<(args: readonly string[]) => Promise<string>> {
  const home = join(cache, "grpcurl");
  await prepareOnce(home, ["test/clients/go/go.sum"], async () => {
    const env = { ...process.env, GOBIN: home };
    await run("go", ["install", "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"], { cwd: home, env });
  });
  return (args) => run(join(home, "grpcurl"), ["-plaintext", ...args]);
}

/** Does the work anew only when a file that one of the patterns names has changed, and never twice at a time. */
async function prepareOnce(home: string, patterns: readonly string[], work: () => Promise<void>): Promise<void> {
  const stamp = join(home, "stamp");
  const inputs = globSync(patterns, { cwd: root }).sort();
  const hash = createHash("sha256");
  for (const input of inputs) hash.update(await readFile(join(root, input)));
  const wanted = hash.digest("hex");
  await mkdir(cache, { recursive: true });
  const release = await claim(`${home}.lock`);
  try {
    if (existsSync(stamp) && (await readFile(stamp, "utf8")) === wanted) return;
    await rm(home, { recursive: true, force: true });
    await mkdir(home);
    await work();
    await writeFile(stamp, wanted);
  } finally {
    release();
  }
}

/** Waits for another test run that prepares the same. */
async function claim(directory: string): Promise<() => void> {
  await mkdir(directory, { recursive: true });
  for (;;) {
    try {
      return claimDataDirectory(directory);
    } catch (error) {
      if (!String(error).includes("in use by process")) throw error;
      await sleep(500);
    }
  }
}

async function fetched(...command: Parameters<typeof run>): Promise<void> {
  try {
    await run(...command);
  } catch (error) {
    throw new PackagesMissing(`its packages cannot be had: ${error}`);
  }
}

function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], ...options });
    let output = "";
    let complaint = "";
    child.stdout.on("data", (text) => {
      output += text;
    });
    child.stderr.on("data", (text) => {
      complaint += text;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${command} ${args.join(" ")} failed (${code}):\n${complaint}`));
    });
  });
}
