/** The kinds of value a configuration is made of. Each says, when it meets another kind, what to write instead. */

import { z } from "zod";
import { parseDuration, parseRetention, retentionForm } from "../duration.ts";
import { usdFromNumber } from "../money.ts";
import { isNamespace, namespaceForm } from "../namespace.ts";
import { Secret } from "../secret.ts";
import { isTimeZone } from "../time-zone.ts";
import { readApiBase, writeApiBase } from "./api-base.ts";
import { readNumber } from "./decimal.ts";
import { isTree } from "./document.ts";
import { readMockResponse, writeMockResponse } from "./mock-response.ts";
import { readPrivateHost, writePrivateHost } from "./private-hosts.ts";
import type { RedisNode } from "./redis-address.ts";
import { readRedisUrl, writeRedisUrl } from "./redis-url.ts";

/** The longest time a timer can be set to, in milliseconds. */
const longestMs = 2 ** 31 - 1;

/** How a field's issue differs from the common case, for whoever words the fault. */
export interface IssueParams {
  /** The value found must not be shown. */
  readonly hidden: boolean;
}

/**
 * A value that `read` understands.
 *
 * @param write what to write, as it follows "write ".
 * @param read gives undefined for what it does not understand.
 * @param hides whether a value it does not understand must not be shown.
 */
function field<Value>(
  write: string,
  read: (value: unknown) => Value | undefined,
  hides: (value: unknown) => boolean = () => false,
) {
  return z.unknown().transform((value, context): Value => {
    const result = read(value);
    if (result !== undefined) return result;
    context.issues.push({
      code: "custom",
      message: write,
      input: value,
      params: { hidden: hides(value) } satisfies IssueParams,
    });
    return z.NEVER;
  });
}

const always = () => true;

const readText = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);

/** Text that may be shown. */
export const text = field('text in quotes, such as "a name"', readText);

/** A model in the provider's words, with LiteLLM's prefix or without. */
export const providerModel = field("provider/model, such as openai/gpt-4o", (value) =>
  readText(value)?.endsWith("/") === false ? readText(value) : undefined,
);

/** Text that must not be shown. */
export const secret = field(
  "a text, best as os.environ/NAME",
  (value) => {
    const plain = readText(value);
    return plain === undefined ? undefined : new Secret(plain);
  },
  always,
);

/** A text or a document that must not be shown; it becomes a text. */
export const secretDocument = field(
  "a JSON document, or a text, best as os.environ/NAME",
  (value) => {
    const plain = isTree(value) ? JSON.stringify(value) : readText(value);
    return plain === undefined ? undefined : new Secret(plain);
  },
  always,
);
/** What sets the answers of some callers apart. It goes into headers and into Redis' keys. */
export const namespace = field(`a name such as "team-a", of ${namespaceForm}`, (value) => {
  const found = readText(value);
  return found !== undefined && isNamespace(found) ? found : undefined;
});

/** A whole number of at least `min`. */
export function whole(min: number, example: number) {
  return field(`a whole number of at least ${min}, such as ${example}`, (value) => {
    const number = readNumber(value);
    return number !== undefined && Number.isSafeInteger(number) && number >= min ? number : undefined;
  });
}

/** Any number of at least `min`. */
export function number(min: number, example: number) {
  return field(`a number of at least ${min}, such as ${example}`, (value) => {
    const found = readNumber(value);
    return found !== undefined && found >= min ? found : undefined;
  });
}

/** A part of a whole. */
export function ratio(example: number) {
  return field(`a number from 0 to 1, such as ${example}`, (value) => {
    const found = readNumber(value);
    return found !== undefined && found >= 0 && found <= 1 ? found : undefined;
  });
}

/** A time over zero, written in seconds, kept in whole milliseconds. */
export const seconds = field("a number of seconds over 0, such as 30", (value) => {
  const ms = (readNumber(value) ?? 0) * 1000;
  return ms > 0 && ms <= longestMs ? Math.max(1, Math.round(ms)) : undefined;
});

/** A wait that may be zero, written in seconds, kept in whole milliseconds. */
export const pause = field("a number of seconds, such as 0.5", (value) => {
  const ms = (readNumber(value) ?? -1) * 1000;
  return ms >= 0 && ms <= longestMs ? Math.round(ms) : undefined;
});

const flags: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  "1": true,
  false: false,
  no: false,
  off: false,
  "0": false,
};

/** True or false, also as the text an environment variable holds. */
export const flag = field("true or false", (value) =>
  typeof value === "boolean" ? value : typeof value === "string" ? flags[value.toLowerCase()] : undefined,
);

/** An amount of money, kept in whole nano-dollars. A billion is the most the books take. */
export const dollars = field("a number of dollars of at least 0, such as 25", (value) => {
  const found = readNumber(value);
  return found !== undefined && found >= 0 && found <= 1_000_000_000 ? usdFromNumber(found) : undefined;
});

/** A length of time as LiteLLM writes it; it stays a text. */
export const duration = field("a number and a unit, one of s, m, h, d, w, mo, such as 30d", (value) =>
  typeof value === "string" && parseDuration(value) !== undefined ? value : undefined,
);

/** Where calendar days begin at midnight. */
export const timeZone = field("the IANA name of a time zone, such as Europe/Berlin", (value) =>
  typeof value === "string" && isTimeZone(value) ? value : undefined,
);

/** One of a few words. */
export function choice<const Word extends string>(words: readonly Word[]) {
  return field(`one of ${words.join(", ")}`, (value) => words.find((word) => word === value));
}

/** In milliseconds. */
export const retention = field(retentionForm, (value) =>
  typeof value === "string" ? parseRetention(value) : undefined,
);

/** The address of a provider. */
export const apiBase = field(writeApiBase, readApiBase, (value) => /[@?]/.test(String(value)));

/** A private place that may be called. */
export const privateHost = field(writePrivateHost, readPrivateHost);

/** The address of a PostgreSQL database. */
export const databaseUrl = field(
  "an address such as postgresql://user:password@host:5432/name, best as os.environ/DATABASE_URL",
  (value) => (typeof value === "string" && /^postgres(ql)?:\/\/./.test(value) ? new Secret(value) : undefined),
  always,
);

/** Addresses of webhooks, one or a list: whoever knows one may use it. */
export const webhookUrls = field(
  "an address such as https://hooks.slack.com/services/..., best as os.environ/NAME, or a list of them",
  (value) => {
    const urls = [value].flat();
    const isUrl = (url: unknown) => typeof url === "string" && /^https?:$/.test(URL.parse(url)?.protocol ?? "");
    return urls.every(isUrl) ? urls.map((url) => new Secret(String(url))) : undefined;
  },
  always,
);

/** The address of a Redis. */
export const redisUrl = field(writeRedisUrl, readRedisUrl, always);

/** Where one of several Redis nodes or sentinels listens. */
export const redisNode = field(
  'a host and a port, such as ["redis-1", 6379] or {host: redis-1, port: 6379}',
  readRedisNode,
);

function readRedisNode(value: unknown): RedisNode | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const [host, port] = Array.isArray(value) ? value : ["host" in value && value.host, "port" in value && value.port];
  const number = readNumber(port);
  return typeof host === "string" && host !== "" && isPort(number) ? { host, port: number } : undefined;
}

function isPort(value: number | undefined): value is number {
  return value !== undefined && Number.isInteger(value) && value >= 1 && value <= 65_535;
}

/** What something listens at. */
export const port = field("a port, a whole number from 1 to 65535, such as 6379", (value) => {
  const number = readNumber(value);
  return isPort(number) ? number : undefined;
});

/** What a mock deployment answers. */
export const mockResponse = field(writeMockResponse, readMockResponse);

/** A map with the given keys; others are left out here and told of elsewhere. */
export function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.object(shape, { error: "a map of keys and values" });
}

/** A list. */
export function list<Item extends z.core.SomeType>(item: Item) {
  return z.array(item, { error: "a list, a dash before each item" });
}

/** A map with keys of the operator's choosing. */
export function map<Value extends z.core.SomeType>(value: Value) {
  return z.record(z.string(), value, { error: "a map of names and values" });
}

/** HTTP headers. Their values may be secrets. */
export const headers = map(field("a text", readText, always));

/** A value whose type is nobody's business yet. */
export const anything = z.unknown();
