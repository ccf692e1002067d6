import { connect } from "node:net";
import { chatRequest } from "./load.ts";
import type { StreamShape } from "./stream-shape.ts";

/** Streams that are open at once. */
export interface StreamLoad {
  readonly port: number;
  readonly key: string;
  readonly body: Buffer;
  readonly count: number;
  readonly shape: StreamShape;
  /** Called when all have begun. */
  readonly onAllOpen?: () => void;
}

/** What came of them. */
export interface StreamLoadResult {
  /** From the request to the first byte of the answer, in milliseconds, sorted. */
  readonly firstMs: readonly number[];
  /** Between what came one after the other in a stream, likewise. */
  readonly gapsMs: readonly number[];
  /** Streams that broke off, or whose chunks were not all there. */
  readonly lost: number;
  readonly chunks: number;
}

/** Streams begin one after the other within this time, as those of many callers do. */
const beginWithinMs = 1_000;
const done = Buffer.from("[DONE]");
const chunkMark = Buffer.from('"content"');

/** Opens so many streams and reads them to their ends. */
export async function runStreamLoad(load: StreamLoad): Promise<StreamLoadResult> {
  const request = chatRequest(load.key, load.body);
  const [firstMs, gapsMs]: [number[], number[]] = [[], []];
  let [lost, chunks, begun] = [0, 0, 0];
  const one = async (index: number) => {
    await new Promise((resolve) => setTimeout(resolve, (index / load.count) * beginWithinMs));
    await new Promise<void>((resolve) => {
      const socket = connect(load.port, "127.0.0.1");
      socket.setNoDelay(true);
      let [askedMs, lastMs, seen, isWhole] = [0, 0, 0, false];
      let tail = Buffer.alloc(0);
      const end = () => {
        if (!isWhole || seen < load.shape.chunkCount) lost += 1;
        socket.destroy();
        resolve();
      };
      socket.on("connect", () => {
        askedMs = performance.now();
        socket.write(request);
      });
      socket.on("error", end);
      socket.setTimeout(60_000, end);
      socket.on("data", (data) => {
        const nowMs = performance.now();
        if (lastMs === 0) {
          firstMs.push(nowMs - askedMs);
          if (++begun === load.count) load.onAllOpen?.();
        } else gapsMs.push(nowMs - lastMs);
        lastMs = nowMs;
        // A mark may stand in two pieces.
        const text = Buffer.concat([tail, data]);
        const here = countOf(text, chunkMark);
        tail = text.subarray(-(chunkMark.length - 1));
        seen += here;
        chunks += here;
        isWhole ||= text.includes(done);
        if (isWhole) {
          socket.removeListener("error", end);
          socket.on("error", () => {});
          end();
        }
      });
    });
  };
  await Promise.all(Array.from({ length: load.count }, (_, index) => one(index)));
  const ascending = (a: number, b: number) => a - b;
  return { firstMs: firstMs.sort(ascending), gapsMs: gapsMs.sort(ascending), lost, chunks };
}

function countOf(data: Buffer, mark: Buffer): number {
  let count = 0;
  for (let at = data.indexOf(mark); at !== -1; at = data.indexOf(mark, at + mark.length)) count += 1;
  return count;
}
