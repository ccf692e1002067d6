import type { Socket } from "node:net";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/**
 * Reads a new connection until it is clear which HTTP it speaks, puts back what was read, and tells.
 *
 * @returns stops reading.
 */
export function readPreface(socket: Socket, decided: (version: "http1" | "http2") => void): () => void {
  let seen: Buffer = Buffer.alloc(0);
  const stop = () => {
    socket.off("readable", onReadable);
  };
  const onReadable = (): void => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const compared = Math.min(seen.length, preface.length);
    const matches = seen.compare(preface, 0, compared, 0, compared) === 0;
    if (matches && compared < preface.length) return;
    stop();
    socket.unshift(seen);
    decided(matches ? "http2" : "http1");
  };
  socket.on("readable", onReadable);
  return stop;
}
