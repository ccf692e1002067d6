/** The thinnest pipe Node can be: `node:http` in, undici's dispatch out. Everything is measured against it. Prints its port. */
import { createServer } from "node:http";
import { type Dispatcher, Pool } from "undici";

const pool = new Pool(process.argv[2] ?? "", { connections: null, pipelining: 1 });
const server = createServer((req, res) => {
  const pieces: Buffer[] = [];
  req.on("data", (piece: Buffer) => pieces.push(piece));
  req.on("end", () => {
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart() {},
      onResponseStart(_controller, status, headers) {
        res.writeHead(status, { "content-type": String(headers["content-type"]) });
      },
      onResponseData(_controller, chunk) {
        res.write(chunk);
      },
      onResponseEnd() {
        res.end();
      },
      onResponseError() {
        res.destroy();
      },
    };
    pool.dispatch(
      {
        path: req.url ?? "/",
        method: "POST",
        headers: ["content-type", "application/json"],
        body: Buffer.concat(pieces),
      },
      handler,
    );
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`${typeof address === "object" ? address?.port : ""}\n`);
});
