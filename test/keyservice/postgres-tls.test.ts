import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { createSecureContext, TLSSocket } from "node:tls";
import pg from "pg";
import { type Clock, systemClock, systemRandom } from "../../src/clock.ts";
import { FileSecret } from "../../src/file-secret.ts";
import { Postgres } from "../../src/keyservice/postgres.ts";
import { Secret } from "../../src/secret.ts";
import type { TlsFiles } from "../../src/tls-files.ts";
import { TestAuthority } from "../certificates.ts";
import { type TestDatabase, testDatabaseUrl } from "../postgres.ts";

/** PostgreSQL's TLS, as its protocol has it, before the real server: it says yes to the request for TLS, or to nothing else. */
class TlsDoor {
  readonly #server: Server;
  readonly clients: string[] = [];

  constructor(files: () => TlsFiles, target: URL) {
    this.#server = createServer((plain) => {
      plain.on("error", () => {});
      plain.once("data", (request) => {
        // SSLRequest: a length of 8 and the code 80877103.
        if (request.length !== 8 || request.readInt32BE(4) !== 80_877_103) return plain.destroy();
        plain.write("S");
        this.#secure(plain, files(), target);
      });
    });
  }

  async open(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", () => resolve()));
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }

  #secure(plain: Socket, { certFile = "", keyFile = "", caFile = "" }: TlsFiles, target: URL): void {
    const [cert, key, ca] = [certFile, keyFile, caFile].map((file) => readFileSync(file));
    const secureContext = createSecureContext({ ...(cert && { cert }), ...(key && { key }), ...(ca && { ca }) });
    const client = new TLSSocket(plain, {
      isServer: true,
      secureContext,
      requestCert: true,
      rejectUnauthorized: false,
    });
    const server = connect(Number(target.port), target.hostname);
    client.on("secure", () => this.clients.push(String(client.getPeerCertificate().subject?.CN ?? "nobody")));
    client.on("error", () => server.destroy()).on("close", () => server.destroy());
    server.on("error", () => client.destroy()).on("close", () => client.destroy());
    client.pipe(server).pipe(client);
  }
}

describe("the books behind TLS", () => {
  const folder = mkdtempSync(join(tmpdir(), "tollgate-postgres-"));
  let database: TestDatabase;
  let authority: TestAuthority;
  let own: TlsFiles;
  let door: TlsDoor;
  let port: number;
  before(async () => {
    database = await testDatabaseUrl();
    authority = new TestAuthority(folder);
    own = authority.issue("books", "DNS:localhost");
    door = new TlsDoor(() => own, new URL(database.url));
    port = await door.open();
  });
  after(async () => {
    door.close();
    await database.drop();
    rmSync(folder, { recursive: true, force: true });
  });

  const urlWith = (query: string, host = "localhost") => {
    const url = new URL(database.url);
    url.hostname = host;
    url.port = String(port);
    return `${url.href}?${query}`;
  };

  const parts = { clock: systemClock, random: systemRandom, onConnectionLost: () => {} };

  async function ask(databaseUrl: string): Promise<unknown> {
    const postgres = new Postgres({ ...parts, databaseUrl: new Secret(databaseUrl) });
    try {
      return await postgres.query("SELECT 1 AS one");
    } finally {
      await postgres.close();
    }
  }

  it("are trusted by their authority and their name, and by nothing less", async () => {
    assert.deepEqual(await ask(urlWith(`sslmode=verify-full&sslrootcert=${authority.file}`)), [{ one: 1 }]);
    const strangers = new TestAuthority(folder, "strangers");
    await assert.rejects(ask(urlWith(`sslmode=verify-full&sslrootcert=${strangers.file}`)));
    await assert.rejects(ask(urlWith("sslmode=verify-full")));
    await assert.rejects(ask(urlWith(`sslmode=verify-full&sslrootcert=${authority.file}`, "127.0.0.1")));
    await assert.rejects(ask(urlWith("sslmode=disable")), "a connection in the clear is not what was asked for here");
  });

  it("are shown the client's certificate, renewed with the next connection", async () => {
    const first = authority.issue("keyservice-1", "DNS:keyservice");
    const query = `sslmode=verify-full&sslrootcert=${authority.file}&sslcert=${first.certFile}&sslkey=${first.keyFile}`;
    const postgres = new Postgres({ ...parts, databaseUrl: new Secret(urlWith(query)) });
    try {
      await postgres.query("SELECT 1");
      const next = authority.issue("keyservice-2", "DNS:keyservice");
      copyFileSync(next.certFile, first.certFile ?? "");
      copyFileSync(next.keyFile, first.keyFile ?? "");
      // The first connection is taken, so that another is made.
      await postgres.transaction(() => postgres.query("SELECT 1"));
      assert.deepEqual(door.clients.slice(-2), ["keyservice-1", "keyservice-2"]);
    } finally {
      await postgres.close();
    }
  });
});

describe("a password that is rotated", () => {
  it("is used for the next connection, without a restart", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tollgate-password-"));
    const database = await testDatabaseUrl();
    const role = `rotated_${Math.random().toString(36).slice(2, 10)}`;
    const admin = new pg.Client({ connectionString: database.url });
    await admin.connect();
    let nowMs = 0;
    const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
    const urlOf = (password: string) => {
      const url = new URL(database.url);
      url.username = role;
      url.password = password;
      return url.href;
    };
    const file = join(folder, "database-url");
    try {
      await admin.query(`CREATE ROLE ${role} LOGIN PASSWORD 'first'`);
      writeFileSync(file, urlOf("first"));
      const databaseUrl = new FileSecret({ file, clock, onError: (error) => assert.fail(error) });
      const postgres = new Postgres({ ...parts(), databaseUrl });
      const who = async () => (await postgres.query<{ who: string }>("SELECT current_user AS who"))[0]?.who;
      assert.equal(await who(), role);
      await admin.query(`ALTER ROLE ${role} PASSWORD 'second'`);
      writeFileSync(file, `${urlOf("second")}\n`);
      nowMs += 10_000;
      await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", [role]);
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.equal(await who(), role);
      assert.equal(databaseUrl.reveal(), urlOf("second"));
      await postgres.close();
    } finally {
      await admin.query(`DROP ROLE ${role}`);
      await admin.end();
      await database.drop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

const parts = () => ({ clock: systemClock, random: systemRandom, onConnectionLost: () => {} });
