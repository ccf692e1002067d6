import type { ServerResponse } from "node:http";
import type { Clock } from "../clock.ts";
import type { Beating, SsePulse } from "./sse-pulse.ts";

const sseType = "text/event-stream; charset=utf-8";
const streamHeaders = [
  ...["cache-control", "no-cache"],
  // nginx would gather the stream otherwise.
  ...["x-accel-buffering", "no"],
];

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
  // node's own flag is missing from HTTP/2 responses.
  #closed = false;

  /** @param headers of the answer besides, names and values in turn. */
  constructor(parts: StreamWriterParts, headers: readonly string[]) {
    this.#parts = parts;
    this.#wroteAtMs = parts.clock.monotonicMs();
    const { res, pulse } = parts;
    res.writeHead(200, [...headers, ...streamHeaders, "content-type", parts.mediaType ?? sseType]);
    res.on("drain", () => this.#release(true));
    res.on("close", () => {
      this.#closed = true;
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
    if (res.write(frames)) return true;
    this.#blockedAtMs = this.#wroteAtMs;
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
