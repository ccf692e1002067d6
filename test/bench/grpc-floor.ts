/** The least a service by connect-node does: gRPC over h2c, and back what came. Calls by gRPC are measured against it. Prints its port. */
import { createServer } from "node:http2";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { CompletionService } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";

const adapter = connectNodeAdapter({
  routes: (router) =>
    router.service(CompletionService, {
      complete: ({ chat }) => ({
        model: chat?.model ?? "",
        choices: (chat?.messages ?? []).map(({ text }, index) => ({ index, text })),
      }),
    }),
});
const server = createServer(adapter);
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`${typeof address === "object" ? address?.port : ""}\n`);
});
