import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { errorInfo } from "../../src/index.ts";
import { type Server, UsageError } from "./command.ts";

/** Exit codes, as sysexits.h has them. */
const exitCodes = { failed: 1, usage: 64, unavailable: 69, permission: 77 } as const;

/** A failure as it is told: what, and what to do. */
export interface Failure {
  readonly exitCode: number;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** Who was asked for what. */
interface Asked {
  /** The server's address. */
  readonly where: string;
  /** The words before the arguments, "tollgate keys info" for instance. */
  readonly command: string;
  readonly server: Pick<Server, "name" | "setting" | "lists">;
}

export function failureOf(thrown: unknown, asked: Asked): Failure {
  const { command } = asked;
  if (thrown instanceof UsageError) {
    const hint = `\`${command} --help\` shows how it is used.`;
    return { exitCode: exitCodes.usage, code: "usage", message: thrown.message, hint };
  }
  const error = ConnectError.from(thrown);
  const reason = errorInfo(error)?.reason;
  const code =
    reason?.toLowerCase() ??
    Code[error.code].replace(/[A-Z]/g, (letter, at) => `${at === 0 ? "" : "_"}${letter.toLowerCase()}`);
  const violations = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
  const fields = violations
    .map(({ field }) => field)
    .filter((field) => field !== "" && !error.rawMessage.includes(field));
  const message = fields.length === 0 ? error.rawMessage : `${fields.join(", ")}: ${error.rawMessage}`;
  return { exitCode: exitCodeOf(error.code), code, message, hint: hintOf(error.code, reason, asked) };
}

function exitCodeOf(code: Code): number {
  if (code === Code.InvalidArgument) return exitCodes.usage;
  if (code === Code.Unavailable || code === Code.DeadlineExceeded) return exitCodes.unavailable;
  if (code === Code.Unauthenticated || code === Code.PermissionDenied) return exitCodes.permission;
  return exitCodes.failed;
}

function hintOf(code: Code, reason: string | undefined, { where, command, server }: Asked): string {
  const { name, setting } = server;
  const resource = command.split(" ").slice(0, 2).join(" ");
  switch (code) {
    case Code.PermissionDenied:
      return "Set TOLLGATE_ADMIN_TOKEN to a key that may do this, the master key for instance, or write --token-file FILE.";
    case Code.Unauthenticated:
      return "Set TOLLGATE_ADMIN_TOKEN to the master key, or write --token-file FILE.";
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return reason === undefined
        ? `Is a ${name} running at ${where}? ${setting} says where to look.`
        : `The ${name} at ${where} cannot work just now. Try again soon, or look into its log.`;
    case Code.NotFound:
      if (server.lists) return `\`${resource} list\` shows what there is.`;
      return `The configuration of the ${name} at ${where} says what there is.`;
    case Code.AlreadyExists:
      return `Choose another name, or change the one there is: \`${resource} update\`.`;
    case Code.Aborted:
      return `Somebody changed it meanwhile. Look at it again (\`${resource} info\`), then repeat.`;
    case Code.Unimplemented:
      return `What answers at ${where} is no ${name}, or an older one. ${setting} says where to look.`;
    case Code.InvalidArgument:
      return `\`${command} --help\` shows how it is used.`;
    default:
      return `The log of the ${name} at ${where} says more.`;
  }
}
