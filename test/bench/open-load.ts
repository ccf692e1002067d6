import { connect, type Socket } from "node:net";
import { AnswerReader } from "./answer-reader.ts";
import { chatRequest } from "./load.ts";

/** What is asked, at which rate. */
export interface OpenLoad {
  readonly port: number;
  readonly key: string;
  readonly body: Buffer;
  readonly perSecond: number;
  readonly forMs: number;
}

/** What came of it. */
export interface OpenLoadResult {
  /** From when each call should have begun to its answer's last byte, in milliseconds, sorted. */
  readonly timesMs: readonly number[];
  /** Calls that failed, or had no answer when it was over. */
  readonly failures: number;
}

/** Enough that none waits for a connection before the one at the other end is overwhelmed. */
const connectionCount = 128;
/** What has begun may end, for so long. */
const graceMs = 2_000;

/**
 * Calls that begin when they are due, some in each millisecond, however long the earlier ones take: as many callers do who know nothing of
 * each other. One that finds no connection free has begun all the same, and its time counts.
 */
export async function runOpenLoad({ port, key, body, perSecond, forMs }: OpenLoad): Promise<OpenLoadResult> {
  const request = chatRequest(key, body);
  const timesMs: number[] = [];
  let [begun, failures] = [0, 0];
  const free: Socket[] = [];
  const begunAtMs = new Map<Socket, number>();
  const due: number[] = [];
  const sockets = await Promise.all(Array.from({ length: connectionCount }, () => connected(port)));
  for (const socket of sockets) {
    const reader = new AnswerReader();
    free.push(socket);
    socket.on("data", (data) => {
      const status = reader.push(data);
      if (status === undefined) return;
      if (status === 200) timesMs.push(performance.now() - (begunAtMs.get(socket) ?? 0));
      else failures += 1;
      begunAtMs.delete(socket);
      free.push(socket);
      send();
    });
  }
  const send = (): void => {
    while (due.length > 0 && free.length > 0) {
      const socket = free.pop();
      if (socket === undefined) return;
      begunAtMs.set(socket, due.shift() ?? 0);
      socket.write(request);
    }
  };
  const startMs = performance.now();
  const tick = setInterval(() => {
    const nowMs = performance.now();
    for (; begun < ((nowMs - startMs) / 1_000) * perSecond; begun++) due.push(startMs + (begun / perSecond) * 1_000);
    send();
  }, 1);
  await sleep(forMs);
  clearInterval(tick);
  const untilMs = performance.now() + graceMs;
  while ((begunAtMs.size > 0 || due.length > 0) && performance.now() < untilMs) await sleep(20);
  failures += begunAtMs.size + due.length;
  for (const socket of sockets) socket.destroy();
  return { timesMs: timesMs.sort((a, b) => a - b), failures };
}

function connected(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket));
    socket.setNoDelay(true);
    socket.on("error", reject);
  });
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
