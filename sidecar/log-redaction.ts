import { scrubCredentials } from "../src/secret.ts";

type Facts = Record<string, unknown>;

/** Members whose values are secrets, however they look; in lower case, without `-` and `_`. */
const secretNames =
  /^(authorization|proxyauthorization|cookie|setcookie|(x|litellm|master|secret|access|private|virtual|salt)?(api)?key|keys?|.*(password|secret|token|credentials?)|.*apikey|pepper|databaseurl|redisurl)$/;
/** Members that hold what was said. */
const contentNames =
  /^(messages?content|messages|prompts?|completions?|body|rawbody|contents?|choices|inputtext|outputtext)$/;
/** Ids and words of ours, in which nobody else can write: not worth looking at. */
const ownNames: ReadonlySet<string> = new Set([
  ...["traceId", "callId", "keyId", "teamId", "leaseId", "door", "route", "code", "model", "provider", "costUsd"],
  ...["service", "pod", "digest"],
]);
const depthMax = 5;

type Treatment = "own" | "secret" | "content" | "look";
/** Names are few; what is made of each is remembered. */
const treatments = new Map<string, Treatment>();
const treatmentsMax = 1_000;

/** The facts of a log line without what looks like a secret, by its name or by itself, and without what was said. */
export function redact(facts: Facts): Facts {
  return redactMembers(facts, depthMax);
}

function redactMembers(facts: Facts, depth: number): Facts {
  let copy: Facts | undefined;
  for (const name in facts) {
    const before = facts[name];
    const after = redactMember(name, before, depth);
    if (after === before) continue;
    copy ??= { ...facts };
    copy[name] = after;
  }
  return copy ?? facts;
}

function redactMember(name: string, value: unknown, depth: number): unknown {
  // Figures and flags say nothing.
  if (typeof value !== "string" && (typeof value !== "object" || value === null)) return value;
  const treatment = treatmentOf(name);
  if (treatment === "own") return value;
  if (treatment === "look") return redactValue(value, depth);
  return `[${treatment}]`;
}

function redactValue(value: unknown, depth: number): unknown {
  if (typeof value === "string") return scrubCredentials(value);
  if (Array.isArray(value)) return depth === 0 ? "[deep]" : value.map((entry) => redactValue(entry, depth - 1));
  if (!isPlain(value)) return value;
  return depth === 0 ? "[deep]" : redactMembers(value, depth - 1);
}

/** Errors, secrets and the like say themselves how they are written. */
function isPlain(value: unknown): value is Facts {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function treatmentOf(name: string): Treatment {
  const known = treatments.get(name);
  if (known !== undefined) return known;
  const plain = name.toLowerCase().replace(/[-_]/g, "");
  const treatment = ownNames.has(name)
    ? "own"
    : secretNames.test(plain)
      ? "secret"
      : contentNames.test(plain)
        ? "content"
        : "look";
  if (treatments.size < treatmentsMax) treatments.set(name, treatment);
  return treatment;
}
