import { readFileSync } from "node:fs";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import type { DescService } from "@bufbuild/protobuf";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { http2Connector, Secret, systemClock, type TlsFiles, tlsMaterial } from "../../src/index.ts";
import type { Settings } from "../settings.ts";
import { type Answer, type Call, type Flags, type Server, UsageError, type Verb } from "./command.ts";
import { failureOf } from "./failure.ts";
import { everywhere, usageOf, verbHelp } from "./help.ts";
import { jsonTextOf, textOf } from "./table.ts";

/** A call that takes longer hangs. */
const timeoutMs = 30_000;

/** What a command reads and writes. */
export interface CliIo {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  /** Read when they are needed: `--help` asks for none. @throws SettingsError */
  readonly settings: () => Settings;
}

/** What is to be run. */
interface Command {
  /** The words it is called by, "tollgate keys info" for instance. */
  readonly words: string;
  /** Or what is wrong with them. */
  readonly verb: Verb | UsageError;
  readonly server: Server;
}

/**
 * Runs a command: asks its server, and tells people or scripts what came of it.
 *
 * @returns the exit code.
 */
export async function runCommand(command: Command, argv: readonly string[], io: CliIo): Promise<number> {
  const { words, verb, server } = command;
  let json = argv.includes("--json");
  let where = "";
  try {
    if (verb instanceof UsageError) throw verb;
    const { args, flags } = readArguments(argv, usageOf(words, verb), verb);
    json = flags.has("json");
    if (flags.has("help")) {
      io.stdout.write(verbHelp(words, verb, server));
      return 0;
    }
    const settings = io.settings();
    const baseUrl = server.url(settings, flags);
    where = new URL(baseUrl).origin;
    const token = tokenOf(settings, flags);
    const { keyService: tls } = settings.tls;
    const answer = await ask({ baseUrl, token, tls }, (connect) => verb.run({ args, flags, connect }));
    tell(answer, json, io);
    return answer.kind === "list" && answer.hasFailed === true ? 1 : 0;
  } catch (thrown) {
    if (!(thrown instanceof UsageError) && where === "") throw thrown;
    const { exitCode, code, message, hint } = failureOf(thrown, { where, command: words, server });
    const text = json
      ? `${JSON.stringify({ error: { code, message, hint } }, null, 2)}\n`
      : `tollgate: ${message} (${code})\n${hint}\n`;
    io.stderr.write(text);
    return exitCode;
  }
}

function tell(answer: Answer, json: boolean, io: CliIo): void {
  io.stdout.write(json ? jsonTextOf(answer) : textOf(answer));
  if (answer.kind === "list" && answer.more) io.stderr.write("There are more; --limit N shows them.\n");
}

function readArguments(
  argv: readonly string[],
  usage: string,
  verb: Verb,
): { readonly args: readonly string[]; readonly flags: ReadonlyMap<string, readonly string[]> } {
  let parsed: { readonly values: object; readonly positionals: readonly string[] };
  try {
    parsed = parseArgs({
      args: [...argv],
      options: optionsOf({ ...verb.flags, ...everywhere }),
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  const { values, positionals: args } = parsed;
  const flags = new Map(
    Object.entries(values).map(([name, value]) => [name, value === true ? [] : [value].flat()] as const),
  );
  const needed = verb.args.filter((arg) => !arg.startsWith("[")).length;
  const most = verb.args.at(-1)?.includes("...") === true ? Number.POSITIVE_INFINITY : verb.args.length;
  if (!flags.has("help") && (args.length < needed || args.length > most || args.includes(""))) {
    throw new UsageError(`it is written: ${usage}`);
  }
  return { args, flags };
}

function optionsOf(flags: Flags): ParseArgsOptionsConfig {
  return Object.fromEntries(
    Object.entries(flags).map(([name, { value, multiple = false }]) => [
      name,
      value === undefined ? { type: "boolean" } : { type: "string", multiple },
    ]),
  );
}

function tokenOf(settings: Settings, flags: ReadonlyMap<string, readonly string[]>): Secret {
  const file = flags.get("token-file")?.[0];
  const token = file === undefined ? (settings.adminToken ?? settings.masterKey) : tokenIn(file);
  if (token === undefined) {
    throw new UsageError("no token: set TOLLGATE_ADMIN_TOKEN to the master key, or write --token-file FILE");
  }
  if (token.reveal() === "") throw new UsageError("--token-file: it is empty; write the master key into it");
  if (!/^[\x21-\x7e]+$/.test(token.reveal())) throw new UsageError("the token has characters that no key has");
  return token;
}

function tokenIn(file: string): Secret {
  try {
    return new Secret(readFileSync(file, "utf8").trim());
  } catch (error) {
    throw new UsageError(
      `--token-file: cannot read "${file}" (${(error as { code?: string }).code ?? "unknown error"})`,
    );
  }
}

/** Runs `work` with clients that share one connection, and closes that. */
async function ask(
  { baseUrl, token, tls }: { readonly baseUrl: string; readonly token: Secret; readonly tls: TlsFiles },
  work: (connect: Call["connect"]) => Promise<Answer>,
): Promise<Answer> {
  const authorize: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token.reveal()}`);
    return next(request);
  };
  const isSecure = baseUrl.startsWith("https:");
  const material = isSecure ? tlsMaterial(tls, { clock: systemClock, onError: () => {} }) : undefined;
  const options = material && { createConnection: http2Connector(material) };
  const sessionManager = new Http2SessionManager(baseUrl, undefined, options);
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    interceptors: [authorize],
    defaultTimeoutMs: timeoutMs,
  });
  try {
    return await work(<Service extends DescService>(service: Service) => createClient(service, transport));
  } finally {
    sessionManager.abort();
  }
}
