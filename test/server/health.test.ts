import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from "../../src/gen/grpc/health/v1/health_pb.ts";
import { CompletionService } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { errorInfo } from "../../src/server/rpc-error.ts";
import { openPort } from "./port.ts";

const service = CompletionService.typeName;

async function open(t: TestContext) {
  const port = await openPort(t, { services: [CompletionService] });
  return { port, client: createClient(HealthService, createGrpcTransport({ baseUrl: port.url })) };
}

test("the process and each of its services can be asked about, an unknown one is NOT_FOUND", async (t) => {
  const { port, client } = await open(t);
  assert.equal((await client.check({})).status, Status.SERVING);
  port.health.set(service, false);
  assert.equal((await client.check({ service })).status, Status.NOT_SERVING);
  assert.equal((await client.check({})).status, Status.SERVING);
  await assert.rejects(client.check({ service: "nobody" }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.NotFound);
    assert.equal(errorInfo(error)?.reason, "NOT_FOUND");
    return true;
  });
});

test("a watch tells every change once, keeps on for an unknown service, and says goodbye when the port closes", async (t) => {
  const { port, client } = await open(t);
  const seen: Status[] = [];
  const unknown: Status[] = [];
  const watching = (async () => {
    for await (const { status } of client.watch({ service })) {
      seen.push(status);
      if (seen.length === 1) port.health.set(service, true);
      if (seen.length === 1) port.health.set(service, false);
      if (seen.length === 2) port.health.set(service, true);
      if (seen.length === 3) void port.close(2_000);
    }
  })();
  const watchingUnknown = (async () => {
    for await (const { status } of client.watch({ service: "nobody" })) unknown.push(status);
  })();
  await Promise.all([watching, watchingUnknown]);
  assert.deepEqual(seen, [Status.SERVING, Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING]);
  assert.deepEqual(unknown, [Status.SERVICE_UNKNOWN]);
});

test("a draining process serves nothing, whatever is set afterwards", async (t) => {
  const { port, client } = await open(t);
  port.health.drain();
  port.health.set(service, true);
  assert.equal(port.health.serving, false);
  assert.equal((await client.check({ service })).status, Status.NOT_SERVING);
  assert.equal((await client.check({})).status, Status.NOT_SERVING);
});
