import { scrubCredentials } from "./secret.ts";

/** Causes beyond this many say nothing new. */
const causesMax = 5;

/**
 * An error and its causes as a text for the log: what an operator needs, without whatever credentials a library quoted.
 *
 * @param withStack whether to add where it was thrown.
 */
export function errorText(thrown: unknown, withStack: boolean): string {
  const texts: string[] = [];
  let cause = thrown;
  for (; cause instanceof Error && texts.length < causesMax; cause = cause.cause) {
    texts.push(withStack && cause.stack !== undefined ? cause.stack : nameOf(cause));
  }
  if (cause !== undefined && !(cause instanceof Error)) texts.push(String(cause));
  return scrubCredentials(texts.join(" <- "));
}

/** Failed connections have only a code. */
function nameOf(error: Error): string {
  if (error.message !== "") return error.message;
  return "code" in error ? String(error.code) : error.name;
}
