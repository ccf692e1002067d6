import { type Logger, pino } from "pino";
import { errorText } from "../src/error-text.ts";

const describe = (error: unknown) => errorText(error, true);

/** A log of JSON lines on standard output. Errors, under `error` or `cause`, are written whole, but for credentials. */
export function createLogger(level: string, base: Readonly<Record<string, string>>): Logger {
  return pino({ level, base, serializers: { error: describe, cause: describe } });
}
