import { isIP } from "node:net";

/** A port that only this machine, or this pod, can reach. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\./.test(host);
}

/**
 * Which names a port may be asked by. A web page can have its own name lead to 127.0.0.1 (DNS rebinding) and then talk to what listens
 * there, as far as the browser is concerned with itself; the name is all that gives it away.
 */
export class HostCheck {
  readonly #names: ReadonlySet<string>;
  /** Callers mostly say the same. */
  #lastGood = "";

  /** @param names taken besides `localhost` and addresses, in lower case and without ports. */
  constructor(names: readonly string[]) {
    this.#names = new Set(names.map((name) => name.toLowerCase()));
  }

  /** @param header of the request; one that is no name at all, which no browser sends, is for others to judge. */
  allows(header: string | undefined): boolean {
    if (header === undefined || header === "" || header === this.#lastGood) return true;
    const name = header
      .replace(/:\d+$/, "")
      .replace(/^\[|\]$/g, "")
      .replace(/\.$/, "")
      .toLowerCase();
    if (!/^[a-z0-9._:-]+$/.test(name)) return true;
    const good = name === "localhost" || name.endsWith(".localhost") || isIP(name) !== 0 || this.#names.has(name);
    if (good) this.#lastGood = header;
    return good;
  }
}
