import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { timestampDate, timestampNow } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../src/gen/grpc/health/v1/health_pb.ts";
import { EntityAdminService, EntityKind } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { KeyAdminService } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import {
  KeyService,
  LimitKind,
  Scope,
  SpendStatus,
  type WatchResponse,
} from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import { createClient as createDatabaseClient } from "../../src/keyservice/postgres.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import {
  createKeyService,
  type KeyServiceOptions,
  type KeyService as RunningKeyService,
} from "../../src/keyservice/server.ts";
import { Secret } from "../../src/secret.ts";
import { errorInfo } from "../../src/server/rpc-error.ts";
import { type TestDatabase, testDatabaseUrl } from "../postgres.ts";
import { pepper } from "./books-stage.ts";

const masterKey = "sk-master-0123456789abcdef";
const runtimeToken = "token of the sidecars";

function start(databaseUrl: string, options: Partial<KeyServiceOptions> = {}): Promise<RunningKeyService> {
  return createKeyService({
    ...{ host: "127.0.0.1", port: 0, databaseUrl: new Secret(databaseUrl), pepper },
    ...{ masterKey: new Secret(masterKey), runtimeToken: new Secret(runtimeToken) },
    ...{ clock: systemClock, random: systemRandom, log: () => {}, graceMs: 1_000 },
    ...options,
  });
}

function transportTo({ port }: { port: number }, token: string) {
  return createGrpcTransport({
    baseUrl: `http://127.0.0.1:${port}`,
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
}

const sidecarOf = (service: { port: number }, token = runtimeToken) =>
  createClient(KeyService, transportTo(service, token));
const operatorOf = (service: { port: number }) => createClient(KeyAdminService, transportTo(service, masterKey));

async function failure(promise: Promise<unknown>): Promise<{ code: Code; reason: string | undefined }> {
  const error = await promise.then(() => assert.fail("it succeeded"), ConnectError.from);
  return { code: error.code, reason: errorInfo(error)?.reason };
}

/** Follows a watch; `next` gives what has come, and waits for it. */
function follow(client: Client<typeof KeyService>, sinceVersion: bigint) {
  const aborter = new AbortController();
  const stream = client.watch({ podId: "pod", sinceVersion }, { signal: aborter.signal });
  const messages = stream[Symbol.asyncIterator]();
  return {
    async next(): Promise<string> {
      const { value } = (await messages.next()) as { value: WatchResponse };
      const { change, version } = value;
      return change.case === "keyChanged" ? `${change.value.keyId} ${version}` : `${change.case} ${version}`;
    },
    close: () => aborter.abort(),
  };
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("two KeyServices on one database", () => {
  let database: TestDatabase;
  let first: RunningKeyService;
  let second: RunningKeyService;
  before(async () => {
    database = await testDatabaseUrl();
    [first, second] = await Promise.all([start(database.url), start(database.url)]);
  });
  after(async () => {
    await Promise.all([first.close(), second.close()]);
    await database.drop();
  });

  async function sql(text: string): Promise<void> {
    const client = createDatabaseClient(new Secret(database.url));
    await client.connect();
    await client.query(text);
    await client.end();
  }

  it("resolve a key that the other one has made, with all it may do", async () => {
    await createClient(EntityAdminService, transportTo(first, masterKey)).createEntity({
      entity: { kind: EntityKind.TEAM, id: "t" },
    });
    const { key, secret } = await operatorOf(first).createKey({
      key: {
        ...{ alias: "all", models: ["gpt-*"], aliases: { fast: "gpt-4" }, maxBudgetUsd: "0.5", budgetDuration: "1mo" },
        ...{ rpmLimit: 0n, tpmLimit: 7n, maxParallelRequests: 3n, userId: "u", teamId: "t", tags: ["a"] },
      },
      duration: "1h",
    });
    assert.ok(key !== undefined);
    const { grant } = await sidecarOf(second).resolveKey({ keySha256: digestSecret(secret) });
    assert.ok(grant !== undefined);
    assert.deepEqual(
      [grant.keyId, grant.keyAlias, grant.userId, grant.teamId, grant.models, grant.aliases, grant.tags, grant.blocked],
      [key.id, "all", "u", "t", ["gpt-*"], { fast: "gpt-4" }, ["a"], false],
    );
    assert.deepEqual(
      grant.limits.map(({ scope, scopeId, kind, ceiling }) => [scope, scopeId, kind, ceiling]),
      [
        [Scope.KEY, key.id, LimitKind.REQUESTS_PER_MINUTE, 0n],
        [Scope.KEY, key.id, LimitKind.TOKENS_PER_MINUTE, 7n],
        [Scope.KEY, key.id, LimitKind.PARALLEL_REQUESTS, 3n],
      ],
    );
    assert.deepEqual(grant.budgets.map(({ scope, scopeId, maxNanos }) => [scope, scopeId, maxNanos]).sort(), [
      [Scope.KEY, key.id, 500_000_000n],
      [Scope.TEAM, "t", undefined],
    ]);
    assert.ok(grant.expireTime !== undefined && timestampDate(grant.expireTime) > new Date());
    assert.ok(grant.version >= 2n);
  });

  it("say definitely that there is no such key, and not that there is none when they do not know", async () => {
    const unknown = sidecarOf(first).resolveKey({ keySha256: digestSecret("sk-nobody") });
    assert.deepEqual(await failure(unknown), { code: Code.NotFound, reason: "KEY_NOT_FOUND" });
    const { key, secret } = await operatorOf(first).createKey({ key: {} });
    await operatorOf(first).deleteKey({ key: key?.id ?? "" });
    const deleted = sidecarOf(first).resolveKey({ keySha256: digestSecret(secret) });
    assert.deepEqual(await failure(deleted), { code: Code.NotFound, reason: "KEY_NOT_FOUND" });
    const short = sidecarOf(first).resolveKey({ keySha256: new Uint8Array(31) });
    assert.deepEqual(await failure(short), { code: Code.InvalidArgument, reason: "INVALID_REQUEST" });
  });

  it("answer sidecars and the operator, and nobody else", async () => {
    const ask = { keySha256: digestSecret("sk-nobody") };
    assert.equal((await failure(sidecarOf(first, masterKey).resolveKey(ask))).code, Code.NotFound);
    const stranger = sidecarOf(first, "guess");
    const refused = { code: Code.Unauthenticated, reason: "INVALID_API_KEY" };
    assert.deepEqual(await failure(stranger.resolveKey(ask)), refused);
    assert.deepEqual(await failure(follow(stranger, 0n).next()), refused);
    assert.deepEqual(await failure(stranger.renewLeases({ podId: "p" })), refused);
    assert.deepEqual(
      await failure(createClient(KeyAdminService, transportTo(first, runtimeToken)).listKeys({})),
      refused,
    );
  });

  it("lend, book and take back money over the wire, each with whichever of the two is asked", async () => {
    const { key } = await operatorOf(first).createKey({ key: { maxBudgetUsd: "0.00000005", budgetDuration: "1d" } });
    const keyId = key?.id ?? "";
    const [one, other] = [sidecarOf(first), sidecarOf(second)];
    const leaseId = randomUUID();
    const ask = { requestId: randomUUID(), podId: "pod", leaseId, keyId, minNanos: 10n, wantNanos: 40n };
    for (const sidecar of [one, other]) {
      const { outcome } = await sidecar.acquireLease(ask);
      assert.ok(outcome.case === "lease");
      assert.equal(outcome.value.grantedNanos, 40n);
      assert.ok(outcome.value.ttlMs > 50_000n && (outcome.value.periodEndsMs ?? 0n) > 0n);
    }
    const { outcome } = await other.acquireLease({
      ...ask,
      requestId: randomUUID(),
      leaseId: randomUUID(),
      minNanos: 11n,
    });
    assert.ok(outcome.case === "refusal");
    const { budget, spentNanos, reservedNanos, resetTime } = outcome.value;
    assert.deepEqual([budget?.scopeId, budget?.maxNanos, spentNanos, reservedNanos], [keyId, 50n, 0n, 40n]);
    assert.ok(resetTime !== undefined);
    const record = {
      ...{ callId: randomUUID(), attempt: 1, keyId, leaseId, reservedNanos: 40n, costNanos: 15n },
      ...{ status: SpendStatus.SUCCESS, startTime: timestampNow(), endUser: "nul \0 user", tags: ["\0"] },
    };
    assert.equal((await one.settle({ podId: "pod", records: [record] })).duplicateCount, 0);
    const odd = { ...record, callId: randomUUID(), leaseId: "no lease at all", costNanos: 1n };
    assert.equal((await other.settle({ podId: "pod", records: [record, odd] })).duplicateCount, 1);
    assert.deepEqual((await one.renewLeases({ podId: "pod", leaseIds: [leaseId, "nonsense"] })).endedLeaseIds, [
      "nonsense",
    ]);
    await other.returnLeases({
      podId: "pod",
      returns: [{ requestId: randomUUID(), leaseId, amountNanos: 0n, close: true }],
    });
    const after = await operatorOf(second).getKey({ key: keyId });
    assert.deepEqual([after.key?.spentUsd, after.key?.reservedUsd], ["0.000000016", "0"]);
  });

  it("refuse what the books cannot hold and name it", async () => {
    const record = {
      callId: randomUUID(),
      attempt: 1,
      keyId: "k",
      status: SpendStatus.SUCCESS,
      startTime: timestampNow(),
    };
    for (const wrong of [
      { costNanos: 10n ** 18n },
      { status: SpendStatus.UNSPECIFIED },
      { attempt: 0 },
      { callId: "x" },
    ]) {
      const refused = sidecarOf(first).settle({ podId: "p", records: [record, { ...record, ...wrong }] });
      assert.deepEqual(await failure(refused), { code: Code.InvalidArgument, reason: "INVALID_REQUEST" });
    }
  });

  it("tell a watcher of one within a second what was changed with the other", async () => {
    const { key } = await operatorOf(first).createKey({ key: {} });
    const keyId = key?.id ?? "";
    const watch = follow(sidecarOf(second), 0n);
    assert.match(await watch.next(), /^heartbeat/);
    const began = performance.now();
    await operatorOf(first).blockKey({ key: keyId });
    assert.ok((await watch.next()).startsWith(`${keyId} `));
    assert.ok(performance.now() - began < 1_000);
    watch.close();
  });

  it("let a watcher catch up on what it missed, each change once and in order", async () => {
    const admin = operatorOf(first);
    const seen = follow(sidecarOf(first), 0n);
    const since = BigInt((await seen.next()).split(" ")[1] ?? "");
    seen.close();
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.push((await admin.createKey({ key: {} })).key?.id ?? "");
    const watch = follow(sidecarOf(second), since);
    const told = [await watch.next(), await watch.next(), await watch.next(), await watch.next()];
    const expected = ids.map((id, place) => `${id} ${since + BigInt(place) + 1n}`);
    assert.deepEqual(told, [...expected, `heartbeat ${since + 3n}`]);
    await admin.blockKey({ key: ids[0] ?? "" });
    assert.equal(await watch.next(), `${ids[0]} ${since + 4n}`);
    watch.close();
  });

  it("tell a watcher to forget everything when what it missed is gone, or when it knows more than there is", async () => {
    await operatorOf(first).createKey({ key: {} });
    await sql("DELETE FROM changes");
    for (const since of [1n, 1_000_000n]) {
      const watch = follow(sidecarOf(second), since);
      assert.match(await watch.next(), /^reset/);
      watch.close();
    }
  });

  it("go on telling when every connection to the database was cut", async () => {
    const watch = follow(sidecarOf(second), 0n);
    await watch.next();
    await sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    // Until the pool has noticed; what it would hand out before is a failure that may be repeated.
    await sleep(100);
    const { key } = await operatorOf(first).createKey({ key: {} });
    assert.ok((await watch.next()).startsWith(`${key?.id} `));
    watch.close();
  });

  it("end their watches and close quickly when they are told to", async () => {
    const third = await start(database.url);
    const watch = follow(sidecarOf(third), 0n);
    await watch.next();
    const ended = failure(watch.next());
    const began = performance.now();
    await third.close();
    assert.ok(performance.now() - began < 900);
    assert.deepEqual(await ended, { code: Code.Unavailable, reason: "SHUTTING_DOWN" });
  });
});

/** A way to the database that can be cut and mended. */
async function openRoad(databaseUrl: string) {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect({ host: target.hostname, port: Number(target.port) });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {}).on("close", () => [near, far].map((end) => sockets.delete(end) && end.destroy()));
    }
    near.pipe(far).pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const url = new URL(databaseUrl);
  url.port = String(port);
  return {
    url: url.href,
    async cut() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
    async mend() {
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
    },
  };
}

describe("a KeyService whose database goes away", () => {
  it("waits for it at the start, and says so; but not for ever", async (test) => {
    const database = await testDatabaseUrl();
    test.after(() => database.drop());
    const road = await openRoad(database.url);
    await road.cut();
    const lines: string[] = [];
    const log = (level: string, message: string) => void lines.push(`${level} ${message}`);
    const starting = start(road.url, { log });
    await sleep(700);
    await road.mend();
    const service = await starting;
    assert.ok((await operatorOf(service).createKey({ key: {} })).secret !== "");
    assert.ok(
      lines.some((line) => line.startsWith("warn The database cannot be reached yet")),
      lines.join(),
    );
    await service.close();
    await road.cut();
    await assert.rejects(start(road.url, { startPatienceMs: 600 }), { code: "ECONNREFUSED" });
  });

  it("comes up whenever in its start that was", async (test) => {
    const database = await testDatabaseUrl();
    test.after(() => database.drop());
    const road = await openRoad(database.url);
    for (let delayMs = 0; delayMs < 240; delayMs += 12) {
      const starting = start(road.url);
      await sleep(delayMs);
      await road.cut();
      await sleep(20);
      await road.mend();
      const service = await starting;
      await service.close();
    }
    await road.cut();
  });

  it("lives on, says so, and serves again when it is back", async (test) => {
    const database = await testDatabaseUrl();
    test.after(() => database.drop());
    const road = await openRoad(database.url);
    const service = await start(road.url);
    const health = createClient(Health, transportTo(service, ""));
    const untilStatus = async (wanted: Status) => {
      const deadline = performance.now() + 10_000;
      while ((await health.check({ service: KeyService.typeName })).status !== wanted) {
        assert.ok(performance.now() < deadline, `the status is not ${wanted}`);
        await sleep(20);
      }
    };
    await untilStatus(Status.SERVING);
    const { key, secret } = await operatorOf(service).createKey({ key: {} });
    const ask = { keySha256: digestSecret(secret) };
    const sidecar = sidecarOf(service);
    const watch = follow(sidecar, 0n);
    await watch.next();

    await road.cut();
    const away = { code: Code.Unavailable, reason: "KEYSERVICE_UNAVAILABLE" };
    assert.deepEqual(await failure(sidecar.resolveKey(ask)), away);
    assert.deepEqual(await failure(sidecar.settle({ podId: "p", records: [{ ...someRecord(), keyId: "k" }] })), away);
    await untilStatus(Status.NOT_SERVING);

    await road.mend();
    await untilStatus(Status.SERVING);
    assert.equal((await sidecar.resolveKey(ask)).grant?.keyId, key?.id);
    await operatorOf(service).blockKey({ key: key?.id ?? "" });
    assert.ok((await watch.next()).startsWith(`${key?.id} `));
    watch.close();
    await service.close();
    await road.cut();
  });
});

function someRecord() {
  return { callId: randomUUID(), attempt: 1, status: SpendStatus.SUCCESS, startTime: timestampNow() };
}
