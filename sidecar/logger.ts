import { type DestinationStream, type Logger, pino } from "pino";
import { errorText } from "../src/error-text.ts";
import { scrubCredentials } from "../src/secret.ts";
import { redact } from "./log-redaction.ts";
import { logText } from "./log-text.ts";

/** How lines look: JSON for machines, text for people. */
export type LogFormat = "json" | "text";

/** A line waits for others so long, in milliseconds, or until so many bytes of them are there; warnings do not. */
const lingerMs = 100;
const flushBytes = 16_000;
/** Where nobody reads, lines are lost rather than kept in memory. */
const bytesMax = 8 * 1_048_576;
/** pino's number for it. */
const warnLevel = 40;

const describe = (error: unknown) => errorText(error, true);

/** Takes lines as bytes: to lines that are text the library adds each anew, and measures all of them again. */
interface Output {
  write(line: Buffer): unknown;
  flush(): void;
}

let standardOutput: Output | undefined;

/**
 * A log of lines on standard output. Errors, under `error` or `cause`, are written whole; what looks like a secret, by its name or by
 * itself, is not. Nobody waits for a line to be written: a reader that is slow slows nothing.
 */
export function createLogger(
  { logLevel: level, logFormat }: { readonly logLevel: string; readonly logFormat: LogFormat },
  base: Readonly<Record<string, string>>,
): Logger {
  const output = outputOfProcess();
  const textOf = logFormat === "json" ? (line: string) => line : logText;
  const stream: DestinationStream = {
    write(line) {
      output.write(Buffer.from(textOf(line)));
      flushSoon(output);
    },
  };
  return pino(
    {
      ...{ level, base, serializers: { error: describe, cause: describe } },
      timestamp: () => `,"time":"${timeText(Date.now())}"`,
      formatters: { level: (label) => ({ level: label }), log: redact },
      hooks: {
        logMethod(args, log, at) {
          // The texts of lines that tell of no trouble are our own.
          const isOurs = at < warnLevel;
          const scrubbed = (arg: unknown) => (typeof arg === "string" ? scrubCredentials(arg) : arg);
          log.apply(this, isOurs ? args : (args.map(scrubbed) as typeof args));
          if (!isOurs) output.flush();
        },
      },
    },
    stream,
  );
}

let [second, secondText] = [0, ""];

/** ISO 8601; of lines in one second the most of it is the same. */
function timeText(nowMs: number): string {
  const thisSecond = Math.floor(nowMs / 1000);
  if (thisSecond !== second)
    [second, secondText] = [thisSecond, new Date(thisSecond * 1000).toISOString().slice(0, 20)];
  return `${secondText}${String(nowMs - thisSecond * 1000).padStart(3, "0")}Z`;
}

let isFlushDue = false;

/** The library would flush at all times, whether there are lines or not: that woke a process that had nothing to do ten times a second. */
function flushSoon(output: Output): void {
  if (isFlushDue) return;
  isFlushDue = true;
  setTimeout(() => {
    isFlushDue = false;
    output.flush();
  }, lingerMs).unref();
}

/** All loggers of a process share it, so that lines do not run into each other. */
function outputOfProcess(): Output {
  if (standardOutput !== undefined) return standardOutput;
  const output = pino.destination({
    ...{ dest: process.stdout.fd, sync: false, minLength: flushBytes, maxLength: bytesMax },
    contentMode: "buffer",
  });
  // A reader that has gone away.
  output.on("error", () => {});
  process.on("exit", () => {
    try {
      output.flushSync();
    } catch {
      // There is nobody left to tell.
    }
  });
  // Its types know of text only.
  standardOutput = output as unknown as Output;
  return standardOutput;
}
