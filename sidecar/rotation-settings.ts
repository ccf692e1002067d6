import { durationMs, parseDuration, type Secret } from "../src/index.ts";
import type { RotationTarget } from "../src/keyservice/key-rotations.ts";

const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Reads where the secrets of keys that rotate by themselves go. */
export function readRotationTarget(
  url: Secret | undefined,
  grace: string,
  faults: string[],
): RotationTarget | undefined {
  const length = grace === "0" ? undefined : parseDuration(grace);
  if (grace !== "0" && length === undefined) {
    faults.push(`LITELLM_KEY_ROTATION_GRACE_PERIOD: "${grace}" is not 0 or a duration such as 24h`);
  }
  if (url === undefined) return undefined;
  const { protocol, hostname } = URL.parse(url.reveal()) ?? { protocol: "", hostname: "" };
  if (protocol !== "https:" && !(protocol === "http:" && loopback.has(hostname))) {
    faults.push(
      "TOLLGATE_KEY_ROTATION_URL: not an https URL, nor an http URL of this machine; secrets are posted there",
    );
  }
  return { url, graceMs: length === undefined ? 0 : durationMs(length) };
}
