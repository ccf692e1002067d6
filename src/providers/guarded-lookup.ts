import { type LookupAddress, lookup } from "node:dns";
import type { LookupFunction } from "node:net";
import { isMetadataAddress, isMetadataName } from "../config/api-base.ts";

/**
 * Looks a provider's name up as node does, but for where machines find their own credentials: a name that leads there, today or only at
 * the second look, would have us read them out to whoever gave it. Names that are known to lead there are for those who mean it;
 * no deployment's address may be one.
 */
export const guardedLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, found) => {
    if (error !== null) return callback(error, "", 0);
    const addresses = isMetadataName(hostname) ? found : found.filter(({ address }) => !isMetadataAddress(address));
    const [first] = addresses;
    if (first === undefined) return callback(refused(hostname), "", 0);
    // With `all` node takes the list.
    if (options.all === true) return (callback as unknown as TakesAll)(null, addresses);
    callback(null, first.address, first.family);
  });
};

type TakesAll = (error: null, addresses: readonly LookupAddress[]) => void;

function refused(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${hostname} leads to a link-local or metadata address`), { code: "EACCES" });
}
