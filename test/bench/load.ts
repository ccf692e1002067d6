import { connect, type Socket } from "node:net";
import { AnswerReader } from "./answer-reader.ts";

/** What is asked, again and again. */
export interface Load {
  readonly port: number;
  readonly key: string;
  readonly body: Buffer;
  readonly connections: number;
  readonly forMs: number;
}

/** What came of it. */
export interface LoadResult {
  readonly calls: number;
  readonly failures: number;
  /** From the first byte asked to the last answered, in milliseconds, sorted. */
  readonly timesMs: readonly number[];
  /** From the first byte asked to the first answered, likewise. */
  readonly firstByteMs: readonly number[];
}

/** A call by HTTP as it stands on the wire. */
export function chatRequest(key: string, body: Buffer): Buffer {
  const head =
    `POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\n` +
    `content-length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), body]);
}

/**
 * Calls as fast as they are answered, over so many connections; by bare sockets, since the client shares a core with the upstream.
 */
export async function runLoad({ port, key, body, connections, forMs }: Load): Promise<LoadResult> {
  const request = chatRequest(key, body);
  const untilMs = performance.now() + forMs;
  const times: number[] = [];
  const firsts: number[] = [];
  let failures = 0;
  const one = () =>
    new Promise<void>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.setNoDelay(true);
      const reader = new AnswerReader();
      let askedMs = 0;
      const ask = () => {
        askedMs = performance.now();
        if (askedMs >= untilMs) {
          socket.destroy();
          resolve();
          return;
        }
        socket.write(request);
      };
      socket.on("connect", ask);
      socket.on("error", () => {
        failures += 1;
        resolve();
      });
      socket.on("data", (data) => {
        if (reader.isFresh) firsts.push(performance.now() - askedMs);
        const status = reader.push(data);
        if (status === undefined) return;
        if (status === 200) times.push(performance.now() - askedMs);
        else failures += 1;
        ask();
      });
      keep(socket, untilMs, resolve);
    });
  await Promise.all(Array.from({ length: connections }, one));
  const ascending = (a: number, b: number) => a - b;
  return { calls: times.length, failures, timesMs: times.sort(ascending), firstByteMs: firsts.sort(ascending) };
}

/** Ends a connection that is never answered. */
function keep(socket: Socket, untilMs: number, resolve: () => void): void {
  setTimeout(
    () => {
      socket.destroy();
      resolve();
    },
    untilMs - performance.now() + 10_000,
  ).unref();
}
