import { connect, constants } from "node:http2";
import { CompletionService } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import type { Load, LoadResult } from "./load.ts";

/** What calls of one client share. */
const callsPerConnection = 8;
const path = `/${CompletionService.typeName}/${CompletionService.method.complete.name}`;

/** Calls by gRPC as fast as they are answered, so many at once; by bare HTTP/2, since the client shares a core with the upstream. */
export async function runGrpcLoad({ port, key, body, connections: atOnce, forMs }: Load): Promise<LoadResult> {
  const sessions = Array.from({ length: Math.ceil(atOnce / callsPerConnection) }, () =>
    connect(`http://127.0.0.1:${port}`),
  );
  const headers = {
    ...{ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" },
    authorization: `Bearer ${key}`,
  };
  const untilMs = performance.now() + forMs;
  const [times, firsts]: [number[], number[]] = [[], []];
  let failures = 0;
  const call = (session: (typeof sessions)[number]) =>
    new Promise<void>((resolve) => {
      const askedMs = performance.now();
      const stream = session.request(headers);
      stream.once("response", () => firsts.push(performance.now() - askedMs));
      stream.once("trailers", ({ "grpc-status": status }) => {
        if (status === "0") times.push(performance.now() - askedMs);
        else failures += 1;
      });
      stream.once("error", () => {
        failures += 1;
      });
      stream.once("close", resolve);
      // A call that is never answered.
      stream.setTimeout(10_000, () => stream.close(constants.NGHTTP2_CANCEL));
      stream.resume().end(body);
    });
  const one = async (index: number) => {
    const session = sessions[index % sessions.length];
    while (session !== undefined && performance.now() < untilMs) await call(session);
  };
  await Promise.all(Array.from({ length: atOnce }, (_, index) => one(index)));
  for (const session of sessions) session.close();
  const ascending = (a: number, b: number) => a - b;
  return { calls: times.length, failures, timesMs: times.sort(ascending), firstByteMs: firsts.sort(ascending) };
}
