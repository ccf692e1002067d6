/** TLS of our ports. */

import type { Server } from "node:https";
import type { Socket } from "node:net";
import type { TLSSocket, TlsOptions } from "node:tls";
import type { Clock } from "../clock.ts";
import type { FileValue } from "../file-value.ts";
import type { TlsMaterial } from "../tls-files.ts";

/** How a port does TLS. */
export interface ServerTls {
  /** `ca`: the authorities that clients' certificates must be of; none: clients are not asked for one. */
  readonly material: FileValue<TlsMaterial>;
  /** Whether a client without a certificate of these authorities is turned away in the handshake; else it is merely nobody. */
  readonly requiresClient: boolean;
}

/** How often a certificate is looked at, in milliseconds. */
const renewEveryMs = 5_000;

/** What a server is made with. HTTP/2 is had by ALPN only. */
export function tlsServerOptions({ material, requiresClient }: ServerTls): TlsOptions {
  const { current } = material;
  const requestCert = current.ca !== undefined;
  return {
    ...current,
    ...{ requestCert, rejectUnauthorized: requestCert && requiresClient },
    ALPNProtocols: ["h2", "http/1.1"],
    minVersion: "TLSv1.2",
  };
}

/** Gives new connections the certificate as it is now. @returns stops that. */
export function renewCertificate(
  server: Pick<Server, "setSecureContext">,
  { material }: ServerTls,
  clock: Clock,
  onError: (error: unknown) => void,
): () => void {
  let shown = material.current;
  let cancel = () => {};
  const next = () => {
    cancel = clock.after(renewEveryMs, () => {
      const { current } = material;
      try {
        // What is not said again is lost.
        if (current !== shown) server.setSecureContext({ ...current, minVersion: "TLSv1.2" });
        shown = current;
      } catch (error) {
        onError(error);
      }
      next();
    });
  };
  next();
  return () => cancel();
}

/** Keeps `shaking` true to whose handshakes are under way: until its end a connection is nobody's, and a port that closes would wait. */
export function trackHandshakes(server: Server, shaking: Set<Socket>): void {
  const byPeer = new Map<string, Socket>();
  const peerOf = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`;
  server.prependListener("connection", (connection) => {
    // node's types promise a Duplex only.
    const socket = connection as Socket;
    const peer = peerOf(socket);
    byPeer.set(peer, socket);
    shaking.add(socket);
    socket.once("close", () => {
      byPeer.delete(peer);
      shaking.delete(socket);
    });
  });
  server.prependListener("secureConnection", (secure) => {
    const socket = byPeer.get(peerOf(secure));
    if (socket !== undefined) shaking.delete(socket);
  });
}

/**
 * The URI names in the certificate of whoever is at the other end; none if it showed none, or one that none of our authorities has
 * signed.
 */
export function peerUris(socket: object | null | undefined): readonly string[] {
  if (socket == null || !("getPeerX509Certificate" in socket)) return [];
  const peer = socket as TLSSocket;
  const names = peer.authorized ? (peer.getPeerX509Certificate()?.subjectAltName ?? "") : "";
  // node quotes names with awkward characters, and nobody needs such a name.
  if (names.includes('"')) return [];
  return names.split(", ").flatMap((name) => (name.startsWith("URI:") ? name.slice("URI:".length) : []));
}
