/** An upstream, OpenAI's and for unary calls Anthropic's, that does next to nothing for each call, so that it is never the bottleneck. Prints its port. */
import { createServer, type Socket } from "node:net";
import { type StreamShape, shapeIn } from "./stream-shape.ts";

const answer = JSON.stringify({
  id: "chatcmpl-bench",
  object: "chat.completion",
  created: 1_700_000_000,
  model: "bench",
  choices: [
    {
      index: 0,
      message: { role: "assistant", content: "word ".repeat(150).trim(), refusal: null },
      logprobs: null,
      finish_reason: "stop",
    },
  ],
  usage: { prompt_tokens: 200, completion_tokens: 150, total_tokens: 350 },
});
const anthropicAnswer = JSON.stringify({
  id: "msg_bench",
  type: "message",
  role: "assistant",
  model: "bench",
  content: [{ type: "text", text: "word ".repeat(150).trim() }],
  stop_reason: "end_turn",
  stop_sequence: null,
  usage: { input_tokens: 200, output_tokens: 150, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
});
const wholeOf = (body: string) =>
  Buffer.from(
    `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
const [whole, anthropicWhole] = [wholeOf(answer), wholeOf(anthropicAnswer)];

const frame = (choices: object[], more: object = {}) =>
  `data: ${JSON.stringify({ id: "chatcmpl-bench", object: "chat.completion.chunk", created: 1_700_000_000, model: "bench", choices, ...more })}\n\n`;
const piece = (text: string) => Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
const head = Buffer.from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
const word = piece(frame([{ index: 0, delta: { content: " word" }, finish_reason: null }]));
const last = Buffer.concat([
  piece(
    frame([{ index: 0, delta: {}, finish_reason: "stop" }]) +
      frame([], { usage: { prompt_tokens: 200, completion_tokens: 50, total_tokens: 250 } }) +
      "data: [DONE]\n\n",
  ),
  Buffer.from("0\r\n\r\n"),
]);

const server = createServer((socket) => serve(socket));
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`${typeof address === "object" ? address?.port : ""}\n`);
});

function serve(socket: Socket): void {
  socket.setNoDelay(true);
  socket.on("error", () => {});
  let pending = Buffer.alloc(0);
  socket.on("data", (data) => {
    pending = pending.length === 0 ? data : Buffer.concat([pending, data]);
    for (;;) {
      const headEnd = pending.indexOf("\r\n\r\n");
      if (headEnd === -1) return;
      const length = Number(
        /\r\ncontent-length: *(\d+)/i.exec(pending.subarray(0, headEnd).toString("latin1"))?.[1] ?? 0,
      );
      const end = headEnd + 4 + length;
      if (pending.length < end) return;
      // The load's bodies say how they want to be answered near their beginning.
      const shape = shapeIn(pending.toString("latin1", headEnd, headEnd + 200));
      const isAnthropic = pending.subarray(0, 40).includes(" /v1/messages ");
      pending = pending.subarray(end);
      if (shape !== undefined) stream(socket, shape, shape.chunkCount);
      else socket.write(isAnthropic ? anthropicWhole : whole);
    }
  });
}

function stream(socket: Socket, shape: StreamShape, left: number): void {
  if (left === shape.chunkCount) socket.write(head);
  if (socket.destroyed) return;
  if (left === 0) return void socket.write(last);
  socket.write(word);
  setTimeout(stream, shape.pauseMs, socket, shape, left - 1);
}
