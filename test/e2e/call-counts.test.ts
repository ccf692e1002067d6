/** What a governed call costs in things that can be counted, on any machine and under any load: a guard against what timings hide. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, request } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Redis } from "ioredis";
import { CompleteRequestSchema, CompletionService, Role } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { framed } from "../../src/server/grpc-message.ts";
import { type RedisServer, startRedis } from "../redis.ts";
import { Stack } from "./stack.ts";

/** Between sidecar and KeyService: counts the calls by the HTTP/2 frames that begin them. */
class CallCounter {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  calls = 0;
  targetPort = 0;

  constructor() {
    this.#server = createServer((socket) => this.#relay(socket));
  }

  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #relay(socket: Socket): void {
    const target = connect(this.targetPort, "127.0.0.1");
    for (const end of [socket, target]) {
      this.#sockets.add(end);
      end.on("error", () => {});
      end.on("close", () => {
        socket.destroy();
        target.destroy();
      });
    }
    target.on("data", (data) => socket.write(data));
    let pending = Buffer.alloc(0);
    let isPrefaceGone = false;
    socket.on("data", (data) => {
      target.write(data);
      pending = Buffer.concat([pending, data]);
      if (!isPrefaceGone) {
        if (pending.length < 24) return;
        pending = pending.subarray(24);
        isPrefaceGone = true;
      }
      while (pending.length >= 9) {
        const end = 9 + pending.readUIntBE(0, 3);
        if (pending.length < end) return;
        if (pending[3] === 1) this.calls += 1;
        pending = pending.subarray(end);
      }
    });
  }
}

const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const text = "word ".repeat(180);
const body = JSON.stringify({ model: "ok", max_tokens: 50, messages: [{ role: "user", content: text }] });
const chat = { model: "ok", maxOutputTokens: 50, messages: [{ role: Role.USER, text }] };
const message = framed(toBinary(CompleteRequestSchema, create(CompleteRequestSchema, { chat })));
/** Counted in so many parts, of so many calls each. */
const [parts, callsPerPart] = [7, 150];
const counter = new CallCounter();
let redis: RedisServer;
let client: Redis;
let stack: Stack;
let key: string;
let session: ClientHttp2Session;

before(async () => {
  redis = await startRedis();
  const port = await counter.listen();
  stack = await Stack.start({
    sidecars: 1,
    redis: `  redis_host: ${redis.host}\n  redis_port: ${redis.port}`,
    env: { KEYSERVICE_URL: `http://127.0.0.1:${port}` },
    // No young garbage is collected while calls are counted, so that what is on the heap is what they allocated.
    nodeFlags: ["--min-semi-space-size=256", "--max-semi-space-size=256"],
    beforeSidecars: (keyServiceUrl) => {
      counter.targetPort = Number(new URL(keyServiceUrl).port);
    },
  });
  client = new Redis({ host: redis.host, port: redis.port });
  const limits = { max_budget: 1_000, rpm_limit: 1_000_000, tpm_limit: 1_000_000_000 };
  const team = await stack.admin("POST", "/team/new", { team_alias: "counted", ...limits });
  key = await stack.generateKey({ ...limits, team_id: team.body.team_id, models: ["ok"] });
  session = connectHttp2(stack.sidecars[0]?.url ?? "");
});
after(async () => {
  session?.destroy();
  client?.disconnect();
  await stack?.close();
  counter.close();
  agent.destroy();
  await redis.stop();
});

function callByHttp(): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const outgoing = request(
      `${stack.sidecars[0]?.url}/v1/chat/completions`,
      { method: "POST", headers, agent },
      (answer) => {
        answer.resume().on("end", () => resolve(answer.statusCode === 200));
      },
    );
    outgoing.on("error", reject).end(body);
  });
}

function callByGrpc(): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ...{ ":method": "POST", ":path": `/${CompletionService.typeName}/Complete`, "content-type": "application/grpc" },
      authorization: `Bearer ${key}`,
    });
    stream.on("trailers", (trailers) => resolve(trailers["grpc-status"] === "0"));
    stream.on("error", reject).on("close", () => reject(new Error("no status")));
    stream.resume().end(message);
  });
}

/** So many calls, some at a time. */
async function callTimes(call: () => Promise<boolean>, count: number, atOnce: number): Promise<void> {
  let left = count;
  const one = async () => {
    while (left-- > 0) assert.ok(await call());
  };
  await Promise.all(Array.from({ length: atOnce }, one));
}

async function scriptsRun(): Promise<number> {
  const stats = await client.info("commandstats");
  return Number(/^cmdstat_evalsha:calls=(\d+)/m.exec(stats)?.[1] ?? 0);
}

async function figureOf(name: string): Promise<number> {
  const text = await (await fetch(`${stack.sidecars[0]?.adminUrl}/metrics`)).text();
  const figure = new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1];
  assert.ok(figure !== undefined, name);
  return Number(figure);
}

for (const [door, call, allocatedMaxKb] of [
  ["HTTP", callByHttp, 126],
  ["gRPC", callByGrpc, 140],
] as const) {
  test(`a governed call by ${door}, eight at a time, asks Redis and the KeyService seldom, and allocates within its bounds`, async (t) => {
    await callTimes(call, 600, 16);
    const [scripts, calls] = [await scriptsRun(), counter.calls];
    const allocatedKb: number[] = [];
    // Should garbage be collected all the same, it spoils one of these only.
    for (let part = 0; part < parts; part++) {
      const heapBytes = await figureOf("nodejs_heap_size_used_bytes");
      await callTimes(call, callsPerPart, 8);
      allocatedKb.push(((await figureOf("nodejs_heap_size_used_bytes")) - heapBytes) / callsPerPart / 1024);
    }
    const count = parts * callsPerPart;
    const perCall = {
      scripts: ((await scriptsRun()) - scripts) / count,
      keyServiceCalls: (counter.calls - calls) / count,
      allocatedKb: allocatedKb.sort((a, b) => a - b)[Math.floor(parts / 2)] ?? 0,
    };
    t.diagnostic(`a call: ${JSON.stringify(perCall)}`);
    assert.ok(perCall.scripts <= 0.15, `${perCall.scripts} scripts a call`);
    assert.ok(perCall.keyServiceCalls <= 0.1, `${perCall.keyServiceCalls} calls of the KeyService a call`);
    assert.ok(
      perCall.allocatedKb > 0 && perCall.allocatedKb <= allocatedMaxKb,
      `${allocatedKb.map(Math.round)} KB allocated a call`,
    );
  });
}
