import { isIP } from "node:net";
import { AddressRanges } from "./address-ranges.ts";

/** Where cloud machines find their own credentials: whoever could point a deployment there could read them. */
const metadataAddresses = new AddressRanges([
  ...["169.254.0.0/16", "100.100.100.200/32", "fe80::/10", "fd00:ec2::254/128"],
]);

const metadataHosts: ReadonlySet<string> = new Set(["metadata.google.internal", "metadata.goog", "metadata"]);

/** What to write where an address of a provider is wanted. */
export const writeApiBase =
  "the http or https address of a provider, such as https://api.example.com/v1, without user and query (link-local and metadata addresses are refused)";

/**
 * The address requests to a provider begin with: no trailing slash, no `/chat/completions`.
 *
 * @returns undefined if it is none, or one that must not be called.
 */
export function readApiBase(value: unknown): string | undefined {
  if (typeof value !== "string" || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  if (url.protocol !== "http:" && url.protocol !== "https:") return undefined;
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") return undefined;
  if (isMetadataHost(url.hostname)) return undefined;
  const path = url.pathname.replace(/\/+$/, "").replace(/\/chat\/completions$/, "");
  return `${url.origin}${path.replace(/\/+$/, "")}`;
}

/** Whether an IP address is one where machines find their own credentials. */
export function isMetadataAddress(address: string): boolean {
  return metadataAddresses.has(address);
}

/** Whether a name is one of those that cloud machines know their credentials' place by. */
export function isMetadataName(name: string): boolean {
  return metadataHosts.has(name.replace(/\.$/, ""));
}

/** @param hostname as URL gives it: lower case, IPv4 in dotted decimals, IPv6 in brackets. */
function isMetadataHost(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");
  return isIP(host) === 0 ? metadataHosts.has(host) : isMetadataAddress(host);
}
