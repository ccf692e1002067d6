import { randomUUID } from "node:crypto";

const acceptable = /^[A-Za-z0-9._-]{1,128}$/;

/** The id a request goes by: the caller's own `x-request-id` if it is fit for a header and a log line, else a new UUID. */
export function requestIdFrom(header: string | readonly string[] | null | undefined): string {
  return typeof header === "string" && acceptable.test(header) ? header : randomUUID();
}
