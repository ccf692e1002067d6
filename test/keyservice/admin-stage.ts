/** A KeyService's administration on a real database and a real port, for the tests beside it. */

import assert from "node:assert/strict";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type pg from "pg";
import type { Clock } from "../../src/clock.ts";
import { systemClock, systemRandom } from "../../src/clock.ts";
import type { JsonObject } from "../../src/completion.ts";
import type { KeyRules } from "../../src/config/creation-rules.ts";
import { noPrivateHosts } from "../../src/config/private-hosts.ts";
import { AuditAdminService } from "../../src/gen/tollgate/admin/v1/audit_pb.ts";
import { BudgetAdminService, EntityAdminService } from "../../src/gen/tollgate/admin/v1/entities_pb.ts";
import { KeyAdminService, SpendAdminService } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { CredentialAdminService, ModelAdminService } from "../../src/gen/tollgate/admin/v1/models_pb.ts";
import { adminRoutes, adminServices, createAdministration } from "../../src/keyservice/administration.ts";
import { createManagementHandler } from "../../src/keyservice/http.ts";
import { noKeyRules } from "../../src/keyservice/key-rules.ts";
import { migrate } from "../../src/keyservice/migrations.ts";
import type { FileModels } from "../../src/keyservice/models.ts";
import { Postgres } from "../../src/keyservice/postgres.ts";
import { Vault } from "../../src/keyservice/vault.ts";
import { Closers } from "../../src/lifecycle.ts";
import { Secret } from "../../src/secret.ts";
import { Health } from "../../src/server/health.ts";
import { listen } from "../../src/server/listen.ts";
import { errorInfo } from "../../src/server/rpc-error.ts";
import { testDatabaseUrl } from "../postgres.ts";

/** The master key of every stage. */
export const masterKey = "sk-master-0123456789abcdef";

/** The pepper of every stage. */
export const pepper = { id: "p1", value: new Secret("pepper of the tests") };

/** What stored secrets are encrypted with on every stage. */
export const encryptionKeys = [new Secret("encryption-key-of-the-tests")];

/** What a test may want otherwise. */
interface StageOptions {
  readonly storesModels?: boolean;
  readonly fileModels?: FileModels;
  readonly deliversSecrets?: boolean;
  readonly keyRules?: KeyRules;
}

/** That a call fails, with which status and reason. */
export async function assertFails(call: Promise<unknown>, code: Code, reason: string): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(Code[error.code], Code[code], error.message);
    assert.equal(errorInfo(error)?.reason, reason);
    return true;
  });
}

/** What came back over HTTP. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of every shape, and assert what is there.
  readonly body: any;
}

/** Everything a test needs of it. */
export class Stage {
  readonly #closers = new Closers();
  readonly bugs: unknown[] = [];
  readonly logged: string[] = [];
  /** How far the stage's clock is ahead, in milliseconds. */
  aheadMs = 0;
  database = new Secret("");
  origin = "";
  postgres!: Postgres;
  keyAdmin!: Client<typeof KeyAdminService>;
  spendAdmin!: Client<typeof SpendAdminService>;
  entityAdmin!: Client<typeof EntityAdminService>;
  budgetAdmin!: Client<typeof BudgetAdminService>;
  modelAdmin!: Client<typeof ModelAdminService>;
  credentialAdmin!: Client<typeof CredentialAdminService>;
  auditAdmin!: Client<typeof AuditAdminService>;
  /** The gRPC clients' key. */
  rpcKey = masterKey;

  static async open(options: StageOptions = {}): Promise<Stage> {
    const stage = new Stage();
    await stage.#open(options);
    return stage;
  }

  /** Sends a request with the master key, or with `headers` alone if they are given. */
  async http(
    method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE",
    path: string,
    body?: JsonObject | string | Buffer<ArrayBuffer>,
    headers: Record<string, string> = { authorization: `Bearer ${masterKey}` },
  ): Promise<Answer> {
    const typed = body === undefined ? headers : { "content-type": "application/json", ...headers };
    const bytes = typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const response = await fetch(`${this.origin}${path}`, {
      method,
      headers: typed,
      ...(body === undefined ? {} : { body: bytes }),
    });
    const isJson = response.headers.get("content-type") === "application/json";
    return {
      status: response.status,
      headers: response.headers,
      body: await (isJson ? response.json() : response.text()),
    };
  }

  /** Makes teams, for keys to be put into. */
  async teams(...ids: readonly string[]): Promise<void> {
    for (const team_id of ids) assert.equal((await this.http("POST", "/team/new", { team_id })).status, 200);
  }

  async sql<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    return this.postgres.query<Row>(text, values);
  }

  async close(): Promise<void> {
    await this.#closers.close((name, error) => {
      throw new Error(`could not close ${name}`, { cause: error });
    });
  }

  async #open(options: StageOptions): Promise<void> {
    const database = await testDatabaseUrl();
    this.#closers.add("database", () => database.drop());
    const databaseUrl = new Secret(database.url);
    this.database = databaseUrl;
    await migrate({ databaseUrl, clock: systemClock });
    this.postgres = new Postgres({
      databaseUrl,
      clock: systemClock,
      random: systemRandom,
      // Dropping the database cuts connections that are just closing.
      onConnectionLost: () => {},
    });
    this.#closers.add("pool", () => this.postgres.close());
    const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + this.aheadMs };
    const parts = createAdministration({
      ...{ postgres: this.postgres, pepper, clock, timeZone: "UTC" },
      rules: () => ({
        keyRules: options.keyRules ?? noKeyRules,
        privateHosts: noPrivateHosts,
        fileModels: options.fileModels,
      }),
      ...{
        vault: new Vault(encryptionKeys),
        storesModels: options.storesModels ?? true,
        deliversSecrets: options.deliversSecrets ?? false,
      },
      masterKey: new Secret(masterKey),
    });
    const telemetry = {
      log: (level: string, message: string, facts: Readonly<Record<string, unknown>> = {}) => {
        this.logged.push(`${level} ${message} ${facts.code}`);
        if (facts.code === "internal_error") this.bugs.push(facts.cause);
      },
    };
    const listener = await listen({
      host: "127.0.0.1",
      port: 0,
      routes: (router) => adminRoutes(router, parts),
      services: adminServices,
      fallback: createManagementHandler({ administration: parts, telemetry }),
      health: new Health([]),
      clock: systemClock,
      onBug: (error) => this.bugs.push(error),
    });
    this.#closers.add("listener", () => listener.close(0));
    this.origin = `http://127.0.0.1:${listener.port}`;
    const transport = createGrpcTransport({
      baseUrl: this.origin,
      interceptors: [
        (next) => (request) => {
          if (this.rpcKey !== "") request.header.set("authorization", `Bearer ${this.rpcKey}`);
          return next(request);
        },
      ],
    });
    this.keyAdmin = createClient(KeyAdminService, transport);
    this.spendAdmin = createClient(SpendAdminService, transport);
    this.entityAdmin = createClient(EntityAdminService, transport);
    this.budgetAdmin = createClient(BudgetAdminService, transport);
    this.modelAdmin = createClient(ModelAdminService, transport);
    this.credentialAdmin = createClient(CredentialAdminService, transport);
    this.auditAdmin = createClient(AuditAdminService, transport);
  }
}
