import { crc32 } from "node:zlib";

/** A message of AWS's event stream, written from its specification. Headers are texts. */
export function eventFrame(headers: Readonly<Record<string, string>>, payload: string | Buffer): Buffer {
  const body = Buffer.from(payload);
  const head = Buffer.concat(
    Object.entries(headers).map(([name, value]) => {
      const text = Buffer.from(value);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(text.length);
      return Buffer.concat([Buffer.from([name.length]), Buffer.from(name), Buffer.from([7]), length, text]);
    }),
  );
  const prelude = Buffer.alloc(8);
  prelude.writeUInt32BE(16 + head.length + body.length, 0);
  prelude.writeUInt32BE(head.length, 4);
  const front = Buffer.concat([prelude, checksum(prelude), head, body]);
  return Buffer.concat([front, checksum(front)]);
}

/** An event as Bedrock sends it. */
export function bedrockEvent(type: string, payload: object): Buffer {
  const headers = { ":event-type": type, ":content-type": "application/json", ":message-type": "event" };
  return eventFrame(headers, JSON.stringify(payload));
}

/** An exception inside a stream as Bedrock sends it. */
export function bedrockExceptionFrame(type: string, message: string): Buffer {
  const headers = { ":exception-type": type, ":content-type": "application/json", ":message-type": "exception" };
  return eventFrame(headers, JSON.stringify({ message }));
}

function checksum(bytes: Buffer): Buffer {
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(bytes));
  return sum;
}
