import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../clock.ts";
import type { Beating, SsePulse } from "./sse-pulse.ts";

const sseType = "text/event-stream; charset=utf-8";
const streamHeaders = [
  ...["cache-control", "no-cache"],
  // nginx would gather the stream otherwise.
  ...["x-accel-buffering", "no"],
];

/** Frames longer than this are not copied to stand in one piece with their length. */
const copiedBytesMax = 4_096;
const lineEnd = "\r\n";

export interface StreamWriterParts {
  readonly res: ServerResponse;
  readonly clock: Clock;
  readonly pulse: SsePulse;
  /** What is sent after a silence, where the stream is SSE. */
  readonly ping: Buffer;
  /** What is streamed. Absent: SSE. */
  readonly mediaType?: string | undefined;
  /** After so much silence something is sent, so that proxies in between do not close the connection. */
  readonly pingMs: number;
  /** A reader that has not read for so long is cut off. */
  readonly stallMs: number;
}

/** Writes one streamed response: as fast as its reader reads, and if it is SSE never silent for long. */
export class StreamWriter implements Beating {
  rosterIndex: number | undefined;
  readonly #parts: StreamWriterParts;
  #wroteAtMs: number;
  /** Since when the reader has not taken what was written. */
  #blockedAtMs: number | undefined;
  #resume: ((open: boolean) => void) | undefined;
  /** Whether the answer is of HTTP's chunks. */
  readonly #isChunked: boolean;
  /** Whether frames have been written, and the head with them. */
  #begun = false;
  readonly #onDrain = () => this.#release(true);
  /** A connection that took more than it could send. */
  #full: Socket | undefined;
  // node's own flag is missing from HTTP/2 responses.
  #closed = false;

  /** @param headers of the answer besides, names and values in turn. */
  constructor(parts: StreamWriterParts, headers: readonly string[]) {
    this.#parts = parts;
    this.#wroteAtMs = parts.clock.monotonicMs();
    const { res, pulse } = parts;
    res.writeHead(200, [...headers, ...streamHeaders, "content-type", parts.mediaType ?? sseType]);
    joinHead(res);
    this.#isChunked = res.req.httpVersion === "1.1";
    res.on("drain", this.#onDrain);
    res.on("close", () => {
      this.#closed = true;
      this.#full?.off("drain", this.#onDrain);
      pulse.remove(this);
      this.#release(false);
    });
    pulse.add(this);
  }

  /** Sends whole frames in one write. @returns whether more may be written now; if not, `drained` tells when. */
  write(frames: Buffer): boolean {
    const { res, clock } = this.#parts;
    if (this.#closed) return false;
    this.#wroteAtMs = clock.monotonicMs();
    const { socket } = res;
    const isPlain = !this.#begun || !this.#isChunked || socket === null || frames.length > copiedBytesMax;
    this.#begun = true;
    if (isPlain ? res.write(frames) : this.#writeChunk(frames, socket)) return true;
    this.#blockedAtMs = this.#wroteAtMs;
    return false;
  }

  /**
   * node writes a chunk's length, the chunk and both line ends each by itself, and at the end of the tick: for the little that a model says at
   * a time that is more work than all the rest. In one piece it goes out at once. The head has gone before it, with the first frames.
   */
  #writeChunk(frames: Buffer, socket: Socket): boolean {
    // None would be the end.
    if (frames.length === 0) return true;
    const length = frames.length.toString(16) + lineEnd;
    const chunk = Buffer.allocUnsafe(length.length + frames.length + lineEnd.length);
    chunk.write(length, "latin1");
    frames.copy(chunk, length.length);
    chunk.write(lineEnd, length.length + frames.length, "latin1");
    if (socket.write(chunk)) return true;
    this.#full = socket;
    socket.once("drain", this.#onDrain);
    return false;
  }

  /** Waits until the reader has caught up. @returns false if it is gone, or has been cut off. */
  drained(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    if (this.#blockedAtMs === undefined) return Promise.resolve(true);
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  /** Sends the head now if nothing has been written yet. */
  flush(): void {
    this.#parts.res.flushHeaders();
  }

  /** Sends the last frames and ends the response. */
  end(frames: Buffer | string | undefined): void {
    this.#parts.pulse.remove(this);
    if (!this.#closed) this.#parts.res.end(frames);
  }

  /** Ends the response by an error: in words where there are any, else by breaking off. */
  fail(frame: string): void {
    if (this.#isSse) this.end(frame);
    else this.#parts.res.destroy();
  }

  get #isSse(): boolean {
    return this.#parts.mediaType === undefined;
  }

  beat(nowMs: number): void {
    const { res, ping, pingMs, stallMs } = this.#parts;
    if (this.#blockedAtMs !== undefined) {
      if (nowMs - this.#blockedAtMs >= stallMs) res.destroy();
    } else if (this.#isSse && nowMs - this.#wroteAtMs >= pingMs) {
      this.write(ping);
    }
  }

  #release(open: boolean): void {
    this.#blockedAtMs = undefined;
    this.#resume?.(open);
    this.#resume = undefined;
  }
}

/**
 * node keeps a head for as long as its response, as the hundred pieces it was put together from, 6 MB of two thousand streams. V8 makes one text
 * of them when an expression looks into it; a plain look, whose result nobody uses, it leaves out.
 */
function joinHead(res: ServerResponse): void {
  const { _header: head } = res as { _header?: unknown };
  if (typeof head === "string") /^H/.test(head);
}
