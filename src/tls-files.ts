import { isIP } from "node:net";
import { connect, createSecureContext, type TLSSocket } from "node:tls";
import type { Clock } from "./clock.ts";
import { FileValue } from "./file-value.ts";

/** The PEM files of one side of a TLS connection. */
export interface TlsFiles {
  /** What this side shows, with the certificates that lead to the other side's authority. */
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  /** The authorities that the other side's certificate must be of. */
  readonly caFile: string | undefined;
}

/** What they hold, as node's TLS takes it. */
export interface TlsMaterial {
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly ca?: Buffer;
}

/**
 * The material of TLS, read again when its files change. A key that does not fit its certificate, which is how a pair looks while it is
 * being written, changes nothing.
 *
 * @throws Error if it cannot be used now.
 */
export function tlsMaterial(
  { certFile, keyFile, caFile }: TlsFiles,
  parts: { readonly clock: Clock; readonly onError: (error: Error) => void },
): FileValue<TlsMaterial> {
  const named = Object.entries({ cert: certFile, key: keyFile, ca: caFile }).flatMap(([name, file]) =>
    file === undefined ? [] : [{ name, file }],
  );
  const files = named.map(({ file }) => file);
  return new FileValue({
    ...{ ...parts, files },
    read: (contents) => {
      const material: TlsMaterial = Object.fromEntries(named.map(({ name }, index) => [name, contents[index]]));
      try {
        createSecureContext(material);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new Error(`${files.map((file) => `"${file}"`).join(", ")}: not a PEM certificate and its key: ${reason}`);
      }
      return material;
    },
  });
}

/** Opens TLS connections for HTTP/2, each with the material as it then is. */
export function http2Connector(material: FileValue<TlsMaterial>): (authority: URL) => TLSSocket {
  return ({ hostname, port }) => {
    const host = hostname.replace(/^\[|\]$/g, "");
    // A certificate is asked for by name; an address is checked against the certificate all the same.
    const servername = isIP(host) === 0 ? host : "";
    return connect({
      ...material.current,
      ...{ host, port: Number(port || 443), servername },
      ...{ ALPNProtocols: ["h2"], minVersion: "TLSv1.2" },
    });
  };
}
