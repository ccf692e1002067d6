import { type LookupAddress, type LookupOptions, lookup } from "node:dns";
import type { LookupFunction } from "node:net";
import { isMetadataAddress, isMetadataName } from "../config/api-base.ts";
import type { PrivateHosts } from "../config/private-hosts.ts";

/**
 * Looks a provider's name up as node does, but for where machines find their own credentials: a name that leads there, today or only at
 * the second look, would have us read them out to whoever gave it. Names that are known to lead there are for those who mean it;
 * no deployment's address may be one.
 */
export const guardedLookup: LookupFunction = guard(lookup);

/** The same for names out of the database: of private addresses they lead to those that are allowed, and to no metadata by any name. */
export function guardedLookupWithin(privateHosts: PrivateHosts): LookupFunction {
  return guard(lookup, privateHosts);
}

/** Both, with another way to look names up. */
export function guard(resolve: Resolve, privateHosts?: PrivateHosts): LookupFunction {
  const mayCall = (address: string, hostname: string) =>
    privateHosts === undefined
      ? isMetadataName(hostname) || !isMetadataAddress(address)
      : !isMetadataAddress(address) && privateHosts.allowsAddress(address, hostname);
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error, "", 0);
      const addresses = found.filter(({ address }) => mayCall(address, hostname));
      const [first] = addresses;
      if (first === undefined) return callback(refused(hostname, privateHosts), "", 0);
      // With `all` node takes the list.
      if (options.all === true) return (callback as unknown as TakesAll)(null, addresses);
      callback(null, first.address, first.family);
    });
  };
}

type Resolve = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void,
) => void;

type TakesAll = (error: null, addresses: readonly LookupAddress[]) => void;

function refused(hostname: string, privateHosts: PrivateHosts | undefined): NodeJS.ErrnoException {
  const where =
    privateHosts === undefined
      ? "a link-local or metadata address"
      : "a private address, and tollgate.stored_models_private_hosts does not allow it";
  return Object.assign(new Error(`${hostname} leads to ${where}`), { code: "EACCES" });
}
