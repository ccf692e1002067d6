import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";

/** A way to a server that can be led elsewhere or go silent. */
export interface Relay {
  readonly host: string;
  readonly port: number;
  /** Where new connections lead; those that exist stay. */
  leadTo(port: number): void;
  /** Connections that exist stay open, but nothing passes any more, as when packets are dropped. */
  silence(): void;
  /** Answers take so much longer from now on. */
  slow(delayMs: number): void;
  close(): Promise<void>;
}

export async function startRelay(port: number): Promise<Relay> {
  let target = port;
  let delayMs = 0;
  /** Passes on what comes, in its order: only the first in line has a timer. */
  const delayed = () => {
    const line: { chunk: Buffer; dueMs: number }[] = [];
    const passOn = () => {
      const first = line[0];
      if (first === undefined) return;
      const waitMs = first.dueMs - performance.now();
      if (waitMs > 0) return void setTimeout(passOn, Math.ceil(waitMs)).unref();
      line.shift();
      stream.push(first.chunk);
      passOn();
    };
    const stream = new Duplex({
      read: () => {},
      write: (chunk, _, done) => {
        line.push({ chunk, dueMs: performance.now() + delayMs });
        if (line.length === 1) passOn();
        done();
      },
    });
    return stream;
  };
  const pairs = new Set<readonly [Socket, Socket]>();
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    const pair = [near, far] as const;
    pairs.add(pair);
    near.pipe(far).pipe(delayed()).pipe(near);
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        pairs.delete(pair);
        for (const each of pair) each.destroy();
      });
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    leadTo: (other) => {
      target = other;
    },
    slow: (ms) => {
      delayMs = ms;
    },
    silence: () => {
      for (const socket of [...pairs].flat()) socket.unpipe().pause();
    },
    close: async () => {
      for (const socket of [...pairs].flat()) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
