import assert from "node:assert/strict";
import { hash, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { constants, createServer as createHttp2 } from "node:http2";
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { AuthorityRejected, AuthorityUnavailable, type Grant } from "../../src/keys/authority.ts";
import { Decisions, decisionDefaults } from "../../src/keys/decisions.ts";
import { Journal, journalDefaults } from "../../src/keys/journal.ts";
import { Reservation } from "../../src/keys/lease.ts";
import { Leases } from "../../src/keys/leases.ts";
import { RemoteAuthority } from "../../src/keys/remote.ts";
import { Shipper } from "../../src/keys/shipper.ts";
import { createKeyService, type KeyService } from "../../src/keyservice/server.ts";
import { Secret } from "../../src/secret.ts";
import { FaultProxy } from "../faults/proxy.ts";
import { type TestDatabase, testDatabaseUrl } from "../postgres.ts";
import { Log, sampleOpen, sampleSettled } from "./samples.ts";

const masterKey = "sk-master-0123456789abcdef";
const runtimeToken = new Secret("runtime-token-0123456789");
const root = mkdtempSync(join(tmpdir(), "tollgate-remote-"));
let database: TestDatabase;
let service: KeyService;
let books: pg.Client;

before(async () => {
  database = await testDatabaseUrl();
  service = await startService(0);
  books = new pg.Client({ connectionString: database.url });
  await books.connect();
});

after(async () => {
  await books.end();
  await service.close();
  await database.drop();
  rmSync(root, { recursive: true, force: true });
});

function startService(port: number, watchMaxMs = 300_000): Promise<KeyService> {
  return createKeyService({
    host: "127.0.0.1",
    port,
    databaseUrl: new Secret(database.url),
    masterKey: new Secret(masterKey),
    runtimeToken,
    pepper: { id: "p1", value: new Secret("pepper of the tests") },
    clock: systemClock,
    random: systemRandom,
    log: () => {},
    graceMs: 100,
    watchMaxMs,
  });
}

function authorityAt(port: number, token: Secret | undefined = runtimeToken, podId = "pod"): RemoteAuthority {
  const url = `http://127.0.0.1:${port}`;
  return new RemoteAuthority({ url, token, podId, clock: systemClock, random: systemRandom });
}

async function manage(path: string, body: object): Promise<Record<string, string>> {
  const headers = { authorization: `Bearer ${masterKey}`, "content-type": "application/json" };
  const init = { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(`http://127.0.0.1:${service.port}${path}`, init);
  assert.equal(response.status, 200, await response.clone().text());
  return (await response.json()) as Record<string, string>;
}

async function newKey(facts: object): Promise<string> {
  const { key } = await manage("/key/generate", facts);
  assert.ok(key);
  return key;
}

/** What the books say of a key's budget, and the sum of its spend log. */
async function booksOf(keyId: string): Promise<{ spent: bigint; reserved: bigint; logged: bigint }> {
  const { rows } = await books.query<{ spent: string; reserved: string; logged: string }>(
    `SELECT coalesce(sum(p.spent_nanos), 0) AS spent, coalesce(sum(p.reserved_nanos), 0) AS reserved,
       (SELECT coalesce(sum(cost_nanos), 0) FROM spend_log WHERE key_id = $1) AS logged
     FROM budget_periods p JOIN key_budgets b USING (budget_id) WHERE b.key_id = $1`,
    [keyId],
  );
  const [row] = rows;
  assert.ok(row);
  return { spent: BigInt(row.spent), reserved: BigInt(row.reserved), logged: BigInt(row.logged) };
}

/** A pod without its doors. */
class Pod {
  readonly authority: RemoteAuthority;
  readonly journal: Journal;
  readonly leases: Leases;
  readonly shipper: Shipper;
  readonly decisions: Decisions;
  readonly log = new Log();

  constructor(port: number, directory = mkdtempSync(join(root, "pod-"))) {
    const parts = { clock: systemClock, random: systemRandom, telemetry: this.log, newId: randomUUID };
    this.authority = authorityAt(port, runtimeToken, basename(directory));
    this.journal = new Journal({ ...journalDefaults, ...parts, directory });
    const { authority, journal } = this;
    this.leases = new Leases({ ...parts, authority, book: journal });
    this.shipper = new Shipper({ ...parts, journal, authority, onBooked: (records) => this.leases.booked(records) });
    this.decisions = new Decisions({
      ...decisionDefaults,
      ...parts,
      authority,
      masterKey: undefined,
      onModels: () => {},
      onRecall: (budgetId) => this.leases.recall(budgetId),
    });
    this.leases.adopt(journal.formerLeases);
    this.shipper.start();
    this.decisions.start();
  }

  async grant(token: string): Promise<Grant> {
    const grant = await this.decisions.resolve(token);
    assert.ok(grant);
    return grant;
  }

  /** One call, as the gateway makes it. */
  async call(grant: Grant, amount: bigint, cost: bigint): Promise<boolean> {
    const reservation = await this.leases.reserve(grant.payer, amount);
    if (!(reservation instanceof Reservation)) return false;
    const open = sampleOpen({ keyId: grant.keyId, leaseId: reservation.leaseId, reserved: amount });
    const begun = this.journal.appendOpen(open);
    await sleep(5);
    this.journal.appendSettled(sampleSettled(open, { cost }), begun);
    reservation.settle(cost);
    return true;
  }

  async close(): Promise<void> {
    await this.decisions.close();
    await this.shipper.flush(5_000);
    await this.leases.close();
    await this.shipper.close();
    await this.journal.close();
    await this.authority.close();
  }
}

async function until(what: string, isTrue: () => boolean | Promise<boolean>, deadlineMs = 5_000): Promise<void> {
  const startMs = performance.now();
  while (!(await isTrue())) {
    assert.ok(performance.now() - startMs < deadlineMs, `waited in vain for: ${what}`);
    await sleep(10);
  }
}

describe("the KeyService, asked over gRPC", () => {
  it("tells what a key may do, and definitely when there is no such key", async (t) => {
    const authority = authorityAt(service.port);
    t.after(() => authority.close());
    const key = await newKey({
      key_alias: "alpha",
      models: ["gpt-*"],
      aliases: { small: "gpt-mini" },
      max_budget: 1.5,
      rpm_limit: 7,
      tpm_limit: 900,
      max_parallel_requests: 2,
      duration: "1h",
    });
    const grant = await authority.resolve(hash("sha256", key, "buffer"));
    assert.ok(grant);
    assert.equal(grant.keyAlias, "alpha");
    assert.deepEqual(grant.models, ["gpt-*"]);
    assert.deepEqual([...grant.aliases], [["small", "gpt-mini"]]);
    assert.equal(grant.payer.budgets[0]?.max, 1_500_000_000n);
    assert.deepEqual(grant.payer.limits.map(({ kind, ceiling }) => [kind, ceiling]).sort(), [
      ["parallel", 2],
      ["requests", 7],
      ["tokens", 900],
    ]);
    const leftMs = (grant.expiresAtMs ?? 0) - systemClock.monotonicMs();
    assert.ok(leftMs > 3_500_000 && leftMs <= 3_600_000, `expires in ${leftMs} ms`);
    assert.equal(await authority.resolve(hash("sha256", "sk-unknown", "buffer")), undefined);
  });

  it("a wrong token says nothing about the key", async (t) => {
    const authority = authorityAt(service.port, new Secret("wrong"));
    t.after(() => authority.close());
    await assert.rejects(authority.resolve(hash("sha256", "sk-unknown", "buffer")), AuthorityUnavailable);
  });

  it("a record it cannot book is rejected for good, odd text is not", async (t) => {
    const authority = authorityAt(service.port);
    t.after(() => authority.close());
    const grant = await authority.resolve(hash("sha256", await newKey({}), "buffer"));
    assert.ok(grant);
    const good = sampleSettled(sampleOpen({ keyId: grant.keyId, endUser: "\u0000 \ud800 ü" }));
    await authority.settle([good]);
    await assert.rejects(authority.settle([good, { ...good, attempt: 0 }]), AuthorityRejected);
    await assert.rejects(authority.settle([{ ...good, attempt: 2, inputTokens: Number.NaN }]), AuthorityRejected);
    assert.equal((await booksOf(grant.keyId)).logged, 700n);
  });

  it("a batch that is written in several turns is booked whole", async (t) => {
    const authority = authorityAt(service.port);
    t.after(() => authority.close());
    const grant = await authority.resolve(hash("sha256", await newKey({}), "buffer"));
    assert.ok(grant);
    const open = sampleOpen({ keyId: grant.keyId });
    const records = Array.from({ length: 200 }, (_, index) => ({ ...sampleSettled(open), attempt: index + 1 }));
    await authority.settle(records);
    assert.equal((await booksOf(grant.keyId)).logged, 200n * 700n);
  });

  it("no KeyService, or a silent one, is unavailable in time", async (t) => {
    const silent = createServer();
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    t.after(() => silent.close());
    for (const port of [1, (silent.address() as AddressInfo).port]) {
      const authority = authorityAt(port);
      const startMs = performance.now();
      await assert.rejects(authority.resolve(Buffer.alloc(32)), AuthorityUnavailable);
      const tookMs = performance.now() - startMs;
      assert.ok(tookMs < 2_500, `port ${port}: ${tookMs} ms`);
      await authority.close();
    }
  });

  it("a call that a closing KeyService refuses unread is asked again", async (t) => {
    let streams = 0;
    const closing = createHttp2();
    closing.on("stream", (stream) => {
      streams++;
      stream.on("error", () => {});
      if (streams === 1) return stream.close(constants.NGHTTP2_REFUSED_STREAM);
      stream.respond(
        { ":status": 200, "content-type": "application/grpc+proto", "grpc-status": "5" },
        { endStream: true },
      );
    });
    await new Promise<void>((resolve) => closing.listen(0, "127.0.0.1", () => resolve()));
    const authority = authorityAt((closing.address() as AddressInfo).port);
    t.after(async () => {
      await authority.close();
      closing.close();
    });
    await assert.rejects(authority.resolve(randomBytes(32)), AuthorityUnavailable);
    assert.equal(streams, 2);
  });

  it("an answer lost on the way is asked for again, and the money is lent once", async (t) => {
    const cutting = await cuttingProxy(service.port);
    const authority = authorityAt(cutting.port);
    t.after(async () => {
      await authority.close();
      cutting.server.close();
    });
    const token = await newKey({ max_budget: 1 });
    const grant = await authority.resolve(hash("sha256", token, "buffer"));
    assert.ok(grant);
    cutting.cutNext();
    const ask = {
      requestId: randomUUID(),
      leaseId: randomUUID(),
      keyId: grant.keyId,
      budgetIds: [],
      min: 10n,
      want: 100n,
      ahead: 0n,
    };
    const answer = await authority.acquire(ask);
    assert.equal(answer.outcome, "granted");
    assert.equal(cutting.cuts(), 1);
    assert.equal((await booksOf(grant.keyId)).reserved, 100n);
  });
});

describe("pods on one KeyService", () => {
  it("300 parallel calls over three pods against a budget that pays for 40: 40 pass, and the books agree", async () => {
    const token = await newKey({ max_budget: 0.04 });
    const pods = [new Pod(service.port), new Pod(service.port), new Pod(service.port)];
    const perCall = 1_000_000n;
    const calls = await Promise.all(
      pods.map(async (pod) => {
        const grant = await pod.grant(token);
        return Promise.all(Array.from({ length: 100 }, () => pod.call(grant, perCall, perCall)));
      }),
    );
    const passed = calls.flat().filter(Boolean).length;
    const grant = await pods[0]?.grant(token);
    assert.ok(grant);
    for (const pod of pods) await pod.close();
    assert.equal(passed, 40);
    assert.deepEqual(await booksOf(grant.keyId), { spent: 40_000_000n, reserved: 0n, logged: 40_000_000n });
  });

  it("what one pod holds ahead is called back for another's call, whichever replicas they ask, and what its calls hold is not", async (t) => {
    const other = await startService(0);
    t.after(() => other.close());
    const token = await newKey({ max_budget: 0.000_001 });
    const [rich, poor] = [new Pod(service.port), new Pod(other.port)];
    t.after(() => Promise.all([rich.close(), poor.close()]));
    await until("both watches", () => rich.decisions.connected && poor.decisions.connected);
    const { payer, keyId } = await rich.grant(token);
    const [kept, ended] = [await rich.leases.reserve(payer, 300n), await rich.leases.reserve(payer, 300n)];
    assert.ok(kept instanceof Reservation && ended instanceof Reservation);
    ended.release();
    assert.equal((await booksOf(keyId)).reserved, 600n);
    const startMs = performance.now();
    const served = await poor.leases.reserve(payer, 700n);
    assert.ok(served instanceof Reservation, "refused while another pod held what it lacked ahead");
    assert.ok(performance.now() - startMs < 1_000);
    assert.deepEqual(await booksOf(keyId), { spent: 0n, reserved: 1_000n, logged: 0n });
    assert.ok(!((await poor.leases.reserve(payer, 1n)) instanceof Reservation));
    kept.release();
    served.release();
  });

  it("a blocked key is refused by other processes within a second", async () => {
    const token = await newKey({});
    const pod = new Pod(service.port);
    await until("the watch", () => pod.decisions.ready);
    assert.equal((await pod.grant(token)).blocked, false);
    const startMs = performance.now();
    await manage("/key/block", { key: token });
    await until("the block", async () => (await pod.grant(token)).blocked, 1_000);
    assert.ok(performance.now() - startMs < 1_000);
    await manage("/key/unblock", { key: token });
    await until("the unblock", async () => !(await pod.grant(token)).blocked, 1_000);
    await manage("/key/delete", { keys: [token] });
    await until("the end", async () => (await pod.decisions.resolve(token)) === undefined, 1_000);
    await pod.close();
  });

  it("calls go on while the KeyService restarts, and everything is booked once afterwards", async () => {
    const token = await newKey({ max_budget: 100 });
    const pod = new Pod(service.port);
    // What is read before the watch stands is read again after it.
    await until("the watch", () => pod.decisions.connected);
    const grant = await pod.grant(token);
    for (let call = 0; call < 5; call++) assert.ok(await pod.call(grant, 1_000n, 600n));
    await until("money for the time without it", () => pod.leases.stats().room >= 4_000n);
    const { port } = service;
    await service.close();
    for (let call = 0; call < 5; call++) assert.ok(await pod.call(await pod.grant(token), 1_000n, 600n));
    await assert.rejects(Promise.resolve(pod.decisions.resolve("sk-unheard-of")), AuthorityUnavailable);
    assert.ok(pod.journal.pendingCount > 0);
    service = await startService(port);
    await until("the records", () => pod.journal.pendingCount === 0, 8_000);
    await until("the watch", () => pod.decisions.connected, 8_000);
    assert.equal(await pod.decisions.resolve("sk-unheard-of"), undefined);
    await pod.close();
    assert.deepEqual(await booksOf(grant.keyId), { spent: 6_000n, reserved: 0n, logged: 6_000n });
  });

  it("behind one address, pods come to a replica that was started after them, and nobody notices", async (t) => {
    const start = () => startService(0, 300);
    const first = await start();
    t.after(() => first.close());
    const address = await FaultProxy.start(first.port);
    t.after(() => address.close());
    const token = await newKey({ max_budget: 100 });
    const pods = [new Pod(address.port), new Pod(address.port), new Pod(address.port)];
    t.after(() => Promise.all(pods.map((pod) => pod.close())));
    await until("all watches", () => pods.every(({ decisions }) => decisions.connected));
    const second = await start();
    t.after(() => second.close());
    // As a Service does, which decides for each new connection.
    address.targetPort = second.port;
    const watchesAt = async ({ port }: KeyService) =>
      Number(/^tollgate_watches (\d+)$/m.exec(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text())?.[1]);
    await until("the second replica to be watched by all", async () => {
      for (const pod of pods) {
        const stranger = await pod.decisions.resolve(`sk-${randomBytes(16).toString("hex")}`);
        assert.equal(stranger, undefined);
        assert.ok(await pod.call(await pod.grant(token), 1_000n, 600n));
        assert.ok(pod.decisions.connected);
      }
      return (await watchesAt(second)) === pods.length && (await watchesAt(first)) === 0;
    });
    for (const { log } of pods)
      assert.deepEqual(
        log.lines.filter(({ level }) => level !== "info"),
        [],
      );
  });

  it("what a dead pod held is returned by the next one in its directory", async () => {
    const token = await newKey({ max_budget: 1 });
    const directory = mkdtempSync(join(root, "dead-"));
    const pod = new Pod(service.port, directory);
    const grant = await pod.grant(token);
    assert.ok(await pod.call(grant, 1_000n, 400n));
    const reservation = await pod.leases.reserve(grant.payer, 1_000n);
    assert.ok(reservation instanceof Reservation);
    pod.journal.appendOpen(sampleOpen({ keyId: grant.keyId, leaseId: reservation.leaseId, reserved: 1_000n }));
    // Dies: what it leaves is its journal; its leases stay open at the KeyService.
    await pod.decisions.close();
    await pod.shipper.close();
    await pod.authority.close();
    await pod.journal.close();
    assert.ok((await booksOf(grant.keyId)).reserved > 0n);
    const heir = new Pod(service.port, directory);
    await until("the return", async () => (await booksOf(grant.keyId)).reserved === 0n);
    await heir.close();
    assert.deepEqual(await booksOf(grant.keyId), { spent: 1_400n, reserved: 0n, logged: 1_400n });
  });
});

/** Passes bytes on; when told to, cuts the connection in place of the next answer. */
async function cuttingProxy(
  target: number,
): Promise<{ server: Server; port: number; cutNext: () => void; cuts: () => number }> {
  let armed = false;
  let cuts = 0;
  const server = createServer((client: Socket) => {
    const upstream = dial(target, "127.0.0.1");
    let asked = false;
    client.on("data", (bytes) => {
      asked ||= armed;
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      // An answer is more than a frame that only acknowledges.
      if (armed && asked && bytes.length > 60) {
        armed = false;
        cuts++;
        client.destroy();
        upstream.destroy();
      } else client.write(bytes);
    });
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      socket.on("error", () => {});
      socket.on("close", () => other.destroy());
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const cutNext = () => {
    armed = true;
  };
  return { server, port, cutNext, cuts: () => cuts };
}
