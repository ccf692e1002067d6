import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import { boundaryOf } from "../wires/multipart.ts";

/** How long, and how many times the limit, a caller whose body was refused may go on sending. */
const drainMs = 10_000;
const drainFactor = 4;

const jsonType = /^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i;

/** What a body is: JSON, or multipart/form-data. */
export type BodyKind = "json" | "form";

/** Whether a request's head promises a body we take. @returns why not. */
export function refuseHead(req: IncomingMessage, bytesMax: number, kind: BodyKind): GatewayError | undefined {
  const type = req.headers["content-type"];
  if (kind === "form" && boundaryOf(type ?? "") === undefined) {
    const message = "The body must be a form: send `content-type: multipart/form-data; boundary=...`.";
    return new GatewayError("unsupported_media_type", message);
  }
  if (kind === "json" && type !== undefined && !jsonType.test(type)) {
    return new GatewayError("unsupported_media_type", "The body must be JSON: send `content-type: application/json`.");
  }
  const encoding = req.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") {
    return new GatewayError("unsupported_media_type", "The body must not be compressed.");
  }
  return Number(req.headers["content-length"] ?? 0) > bytesMax ? tooLarge(bytesMax) : undefined;
}

/**
 * Reads a request's body.
 *
 * @returns `body_too_large` as soon as it is over the limit, `client_closed_request` if the caller goes away before its end.
 */
export function readBody(req: IncomingMessage, bytesMax: number): Promise<Buffer | GatewayError> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > bytesMax) finish(tooLarge(bytesMax));
    };
    const onEnd = (): void => {
      const [only] = chunks;
      const isOne = chunks.length === 1 && only !== undefined;
      finish(isOne ? only : Buffer.concat(chunks, bytes));
      if (!isOne) for (const chunk of chunks) release(chunk);
    };
    const onClose = (): void => finish(new GatewayError("client_closed_request", "The caller went away."));
    const finish = (result: Buffer | GatewayError): void => {
      req.off("data", onData).off("end", onEnd).off("close", onClose);
      resolve(result);
    };
    req.on("data", onData).on("end", onEnd).on("close", onClose);
    // Reported as `close` too; unheard, it would end the process.
    req.on("error", () => {});
  });
}

/** Gives memory back that is not read any more: with it left to V8, that collected the whole heap once for each 115 bodies of 200 KB. */
function release(copied: Buffer): void {
  if (copied.length === copied.buffer.byteLength) (copied.buffer as ArrayBuffer).transfer(0);
}

/**
 * Ends a response whose body has been written, while the caller may still be sending its own. A connection closed on unread
 * bytes is reset, and the caller would see that instead of the answer; so what comes is read and thrown away, within bounds.
 */
export function endAfterDrain(req: IncomingMessage, res: ServerResponse, bytesMax: number, clock: Clock): void {
  if (req.complete || req.httpVersionMajor > 1) {
    req.resume();
    res.end();
    return;
  }
  let bytes = 0;
  const finish = (): void => {
    cancel();
    req.off("data", onData).off("end", finish).off("close", finish);
    res.end();
  };
  const onData = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > bytesMax * drainFactor) finish();
  };
  const cancel = clock.after(drainMs, finish);
  req.on("data", onData).on("end", finish).on("close", finish);
  req.resume();
}

function tooLarge(bytesMax: number): GatewayError {
  const limit = bytesMax >= 1_048_576 ? `${Math.floor(bytesMax / 1_048_576)} MiB` : `${bytesMax} bytes`;
  return new GatewayError("body_too_large", `The body is larger than ${limit}.`);
}
