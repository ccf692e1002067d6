import { connect, type Socket } from "node:net";

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

const endOfChunks = Buffer.from("\r\n0\r\n\r\n");

/**
 * Calls as fast as they are answered, over so many connections; by bare sockets, since the client shares a core with the upstream.
 */
export async function runLoad({ port, key, body, connections, forMs }: Load): Promise<LoadResult> {
  const head =
    `POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\n` +
    `content-length: ${body.length}\r\n\r\n`;
  const request = Buffer.concat([Buffer.from(head), body]);
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

/** Finds the end of each answer; content-length or chunked. */
class AnswerReader {
  #head = "";
  #left: number | undefined;
  #status = 0;
  #tail = Buffer.alloc(0);

  get isFresh(): boolean {
    return this.#head === "" && this.#status === 0;
  }

  /** @returns the status once the answer is whole. */
  push(data: Buffer): number | undefined {
    let rest = data;
    if (this.#status === 0) {
      this.#head += data.toString("latin1");
      const end = this.#head.indexOf("\r\n\r\n");
      if (end === -1) return undefined;
      const head = this.#head.slice(0, end).toLowerCase();
      this.#status = Number(head.slice(9, 12));
      const length = /\r\ncontent-length: *(\d+)/.exec(head)?.[1];
      this.#left = length === undefined ? undefined : Number(length);
      rest = Buffer.from(this.#head.slice(end + (this.#left === undefined ? 2 : 4)), "latin1");
    }
    if (this.#left !== undefined) {
      this.#left -= rest.length;
      return this.#left <= 0 ? this.#end() : undefined;
    }
    this.#tail = Buffer.concat([this.#tail, rest]).subarray(-endOfChunks.length);
    return this.#tail.equals(endOfChunks) ? this.#end() : undefined;
  }

  #end(): number {
    const status = this.#status;
    this.#head = "";
    this.#status = 0;
    this.#left = undefined;
    this.#tail = Buffer.alloc(0);
    return status;
  }
}
