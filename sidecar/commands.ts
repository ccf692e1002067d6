import { flushCompileCache } from "node:module";
import { hostname } from "node:os";
import { parseArgs } from "node:util";
import { systemClock } from "../src/clock.ts";
import { collectAll, collectWhenQuiet, eventLoopShare } from "./quiet-collection.ts";
import { readSettings, type Settings, SettingsError } from "./settings.ts";

const usage = `tollgate: a per-pod LLM gateway whose budgets and limits hold exactly

  tollgate up [--config FILE]          KeyService and sidecar in one process, on embedded parts
  tollgate keyservice [--config FILE]  the central KeyService (DATABASE_URL)
  tollgate sidecar [--config FILE]     the gateway of one pod (KEYSERVICE_URL)
  tollgate reencrypt [--config FILE]   puts stored secrets under the newest of TOLLGATE_ENCRYPTION_KEYS
  tollgate check FILE [--json]         what a configuration compiles to; exits 0 or 64
  tollgate health sidecar|keyservice   whether the one on this machine can be used; exits 0 or 1, for health checks of containers
  tollgate explain MODEL               where a sidecar would try a call, and why not elsewhere; \`tollgate explain --help\`
  tollgate import litellm              keys, teams, budgets ... of LiteLLM's database; \`tollgate import --help\`
  tollgate version

  tollgate keys|teams|users|organizations|customers|tags|budgets|models|credentials VERB, tollgate spend VERB, tollgate audit list
                                       administration of a running KeyService (KEYSERVICE_URL, TOLLGATE_ADMIN_TOKEN);
                                       \`tollgate keys --help\` shows the verbs

The README's configuration table lists the environment variables.
`;

/** As sysexits.h has them: the usage or the configuration is wrong; the work could not be done. */
const exitUsage = 64;
const exitSoftware = 70;

/** A program that runs until it is told to stop. */
export interface Program {
  /** Reads its files again; at SIGHUP. */
  reload?(): Promise<void>;
  close(): Promise<void>;
}

/** Loaded when they are asked for: a sidecar's start does not wait for what only `up` needs. */
const programs = new Map<string, () => Promise<(settings: Settings) => Promise<Program>>>([
  ["up", async () => (await import("./up.ts")).startUp],
  ["keyservice", async () => (await import("./keyservice.ts")).startKeyServiceProgram],
  ["sidecar", async () => (await import("./sidecar.ts")).startSidecarProgram],
]);

/** What can be administered; which verbs each has is told by what carries them out. */
const resourceNames = new Set([
  ...["keys", "teams", "users", "organizations", "customers", "tags"],
  ...["budgets", "models", "credentials", "spend", "audit"],
]);

/** Carries out a command line and sets the exit code, whatever becomes of it. */
export async function runCommand(argv: readonly string[]): Promise<void> {
  // `tollgate check FILE | head` closes the pipe early, which is no failure.
  process.stdout.on("error", () => process.exit(0));
  try {
    process.exitCode = await run(argv);
  } catch (error) {
    process.stderr.write(`tollgate: ${failureText(error)}\n`);
    process.exitCode = error instanceof SettingsError ? exitUsage : exitSoftware;
  }
}

/** Of what whoever starts it can mend it says how; of anything else, where it came from. */
function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof SettingsError) return error.message;
  const { code, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  if (code === "EADDRINUSE" && port !== undefined) {
    const names = "TOLLGATE_PORT, TOLLGATE_ADMIN_PORT, TOLLGATE_KEYSERVICE_PORT or TOLLGATE_KEYSERVICE_ADMIN_PORT";
    return `Port ${port} at ${address} is taken by another program. Stop that one, or choose another port: ${names}.`;
  }
  return error.stack ?? error.message;
}

async function run(argv: readonly string[]): Promise<number> {
  const [command = "help", ...args] = argv;
  if (command === "check") {
    const { check } = await import("./check.ts");
    return check(args, { stdout: process.stdout, stderr: process.stderr, env: process.env });
  }
  if (resourceNames.has(command)) {
    const { administer } = await import("./cli/administer.ts");
    const settings = () => readSettings(process.env, hostname());
    return administer(argv, { stdout: process.stdout, stderr: process.stderr, settings });
  }
  if (command === "import") {
    const { importLitellm } = await import("./cli/import-litellm.ts");
    const settings = () => readSettings(process.env, hostname());
    return importLitellm(args, { stdout: process.stdout, stderr: process.stderr, settings });
  }
  if (command === "explain") {
    const { explain } = await import("./cli/explain.ts");
    const settings = () => readSettings(process.env, hostname());
    return explain(args, { stdout: process.stdout, stderr: process.stderr, settings });
  }
  if (command === "health") {
    const { health } = await import("./health.ts");
    return health(args, { settings: readSettings(process.env, hostname()), stdout: process.stdout });
  }
  if (command === "version" || command === "--version") {
    process.stdout.write(`tollgate ${(await import("./version.ts")).version}\n`);
    return 0;
  }
  if (["help", "--help", "-h"].includes(command)) {
    process.stdout.write(usage);
    return 0;
  }
  if (command === "reencrypt") return (await import("./reencrypt.ts")).reencrypt(settingsOf(args), process.stdout);
  const load = programs.get(command);
  if (load === undefined) throw new SettingsError(`"${command}" is no command.\n\n${usage}`);
  const settings = settingsOf(args);
  const stopped = stopSignal(settings.env.npm_lifecycle_event !== undefined);
  const start = await load();
  const program = await start(settings);
  // At its end a program may not be asked any more.
  flushCompileCache();
  collectWhenQuiet({ clock: systemClock, workShare: eventLoopShare(), collect: collectAll });
  // Where nothing can be reloaded, as in `up`, SIGHUP is what it is everywhere: the terminal has gone.
  if (program.reload !== undefined) process.on("SIGHUP", () => void program.reload?.());
  await stopped;
  await program.close();
  // What nobody waits for any more, as spans that no collector takes, would keep the process for as long as it may take.
  process.exit(0);
}

function settingsOf(args: readonly string[]): Settings {
  let config: string | undefined;
  try {
    config = parseArgs({ args: [...args], options: { config: { type: "string", short: "c" } } }).values.config;
  } catch (error) {
    throw new SettingsError(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
  return readSettings(config === undefined ? process.env : { ...process.env, TOLLGATE_CONFIG: config }, hostname());
}

/**
 * Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. Started by npm, also when npm is killed
 * without a word: nobody would know that this process still holds the ports.
 */
function stopSignal(startedByNpm: boolean): Promise<void> {
  return new Promise((resolve) => {
    const parent = process.ppid;
    if (startedByNpm) {
      setInterval(() => process.ppid !== parent && resolve(), 1_000).unref();
    }
    let asked = false;
    const onSignal = () => {
      if (asked) process.exit(exitSoftware);
      asked = true;
      resolve();
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}
