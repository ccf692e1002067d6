/** Private places, where only the network they stand in leads: a model of the database is called there where the operator allows it. */

import { isIP } from "node:net";
import { AddressRanges, readAddressRange } from "./address-ranges.ts";

/** IANA's special-purpose addresses that nobody on the internet has. */
const privateAddresses = new AddressRanges([
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"],
  ...["192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"],
  ...["::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"],
]);

/** Names that no public DNS has: this machine's, and those of private networks and of Kubernetes. */
const privateName = /^[^.]+$|\.(?:localhost|local|internal|svc|home\.arpa)$/;

/** What to write where a private place is allowed. */
export const writePrivateHost =
  "a range of addresses such as 10.20.0.0/16, or a host such as vllm.models.svc or *.models.svc";

/** The private places that models of the database may be called at. */
export class PrivateHosts {
  /** As `readPrivateHost` gave them. */
  readonly items: readonly string[];
  /** The same for the same items. */
  readonly text: string;
  readonly #ranges: AddressRanges;
  readonly #hasRanges: boolean;
  readonly #names: readonly string[];

  constructor(items: readonly string[]) {
    const ranges = items.filter((item) => item.includes("/"));
    this.items = items;
    this.text = items.join(" ");
    this.#ranges = new AddressRanges(ranges);
    this.#hasRanges = ranges.length > 0;
    this.#names = items.filter((item) => !item.includes("/"));
  }

  /** Whether a connection may be made to where a name has led, or to an address that stands in its place. */
  allowsAddress(address: string, name = ""): boolean {
    return !privateAddresses.has(address) || this.#ranges.has(address) || this.#allowsName(name);
  }

  /**
   * Whether a host may be called as far as its name tells; where that leads is seen when it is called.
   *
   * @param hostname as URL gives it.
   */
  allowsHost(hostname: string): boolean {
    const host = hostname.replace(/^\[|\]$|\.$/g, "");
    if (isIP(host) !== 0) return this.allowsAddress(host);
    return !privateName.test(host) || this.#hasRanges || this.#allowsName(host);
  }

  #allowsName(name: string): boolean {
    const host = name.replace(/\.$/, "");
    return this.#names.some((one) => (one.startsWith("*") ? host.endsWith(one.slice(1)) : host === one));
  }
}

/** None is allowed. */
export const noPrivateHosts = new PrivateHosts([]);

/** @returns undefined for what is neither a range nor a host. */
export function readPrivateHost(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  const text = value.toLowerCase();
  const isHost = /^(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/.test(text) && isIP(text) === 0;
  return isHost ? text : readAddressRange(text);
}
