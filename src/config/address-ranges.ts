import { BlockList, isIP } from "node:net";

/** Ranges of IP addresses, as `10.0.0.0/8`: those of IPv4 also as networks without it write them (mapped, and NAT64 by RFC 6052). */
export class AddressRanges {
  readonly #list = new BlockList();

  constructor(ranges: readonly string[]) {
    for (const range of ranges) {
      const [address = "", bits] = range.split("/");
      if (isIP(address) === 6) this.#list.addSubnet(address, Number(bits), "ipv6");
      else {
        this.#list.addSubnet(address, Number(bits), "ipv4");
        this.#list.addSubnet(`64:ff9b::${address}`, 96 + Number(bits), "ipv6");
      }
    }
  }

  has(address: string): boolean {
    return this.#list.check(address, isIP(address) === 4 ? "ipv4" : "ipv6");
  }
}

/** @returns a range, also for a single address; undefined for what is none. */
export function readAddressRange(text: string): string | undefined {
  const [, address = "", bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = isIP(address);
  const bitsMax = family === 4 ? 32 : 128;
  return family === 0 || Number(bits ?? 0) > bitsMax ? undefined : `${address}/${bits ?? bitsMax}`;
}
