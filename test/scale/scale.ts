/** The KeyService with full books: how long questions take, and what booking costs beside plain INSERTs. */

import { randomUUID, randomUUIDv7 } from "node:crypto";
import { Agent, request as httpRequest } from "node:http";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { KeyService } from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import { arrayText } from "../../src/keyservice/array-text.ts";
import { insertKey } from "../../src/keyservice/key-writes.ts";
import { Leases } from "../../src/keyservice/leases.ts";
import { Lender } from "../../src/keyservice/lender.ts";
import { Postgres } from "../../src/keyservice/postgres.ts";
import { Recalls } from "../../src/keyservice/recalls.ts";
import { digestSecret, hashSecret } from "../../src/keyservice/secrets.ts";
import { createKeyService } from "../../src/keyservice/server.ts";
import { columns, Settlements, type SpendRecord } from "../../src/keyservice/settlements.ts";
import { Closers } from "../../src/lifecycle.ts";
import { Secret } from "../../src/secret.ts";
import { pepper, spend } from "../keyservice/books-stage.ts";

const masterKey = "sk-master-of-the-scale-test";
const leaseTtlMs = 600_000;
const timeZone = "UTC";
/** Pods that settle at once. */
const podCount = 4;
/** Of the rows, nine in ten are of so many keys; the others of any. */
const busyKeyCount = 1_000;
const dayCount = 30;
/** Keys of each pod, where each has its own. */
const ownKeyCount = 4;
/** Batches that each pod settles one after the other before the other way has its turn. */
const batchesATurn = 4;
const models = ["gpt-4o", "gpt-4o-mini", "claude-sonnet"] as const;

/** How full the books are to be, and how long to measure. */
export interface ScaleOptions {
  readonly keyCount: number;
  readonly rowCount: number;
  readonly resolveCount: number;
  /** Questions of each report. */
  readonly reportCount: number;
  /** Batches of each size, for each of the two ways. */
  readonly batchCount: number;
  readonly say: (line: string) => void;
}

/** Latencies in milliseconds. */
export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Whose calls the records of a batch are: of any keys and days, so that nearly every one moves budgets and sums of its own; or of the few keys a pod has, begun just now. */
export type Spread = "any keys of any days" | "a pod's own keys of today";

/** What booking in batches of one size does. */
export interface Throughput {
  readonly spread: Spread;
  readonly batchSize: number;
  /** Rows a second: settled, with every budget, lease and sum moved; and only inserted into a table like the spend log. */
  readonly settledPerSecond: number;
  readonly insertedPerSecond: number;
}

/** What was measured. */
export interface ScaleResult {
  /** `alone`: one question after the other; `busy`: 16 at once. */
  readonly resolve: { readonly alone: Latency; readonly busy: Latency };
  readonly reports: readonly (Latency & { readonly path: string; readonly bytes: number })[];
  readonly settle: readonly Throughput[];
  /** Rows in the spend log, and what they cost, by the log and by the sums by day. */
  readonly rowCount: bigint;
  readonly logged: bigint;
  readonly summed: bigint;
}

/** Fills the books of an empty database through the KeyService's own code, and measures. */
export async function measureScale(databaseUrl: Secret, options: ScaleOptions): Promise<ScaleResult> {
  const closers = new Closers();
  try {
    const keyService = await createKeyService({
      ...{ host: "127.0.0.1", port: 0, databaseUrl, pepper, leaseTtlMs, timeZone },
      ...{ masterKey: new Secret(masterKey), runtimeToken: new Secret(masterKey) },
      ...{ clock: systemClock, random: systemRandom, log: () => {} },
    });
    closers.add("KeyService", () => keyService.close());
    const parts = { databaseUrl, clock: systemClock, random: systemRandom, onConnectionLost: () => {} };
    const postgres = new Postgres(parts);
    closers.add("connections", () => postgres.close());
    const scale = new Scale(postgres, `http://127.0.0.1:${keyService.port}`, options);
    closers.add("agent", () => scale.close());
    return await scale.measure();
  } finally {
    await closers.close((_, error) => {
      throw error;
    });
  }
}

interface MadeKey {
  readonly keyId: string;
  readonly secret: string;
  readonly teamId: string;
  readonly userId: string;
}

interface MadeRecord {
  readonly record: SpendRecord;
  readonly key: MadeKey;
}

class Scale {
  readonly #postgres: Postgres;
  readonly #origin: string;
  readonly #options: ScaleOptions;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #settlements: Settlements;
  readonly #lender: Lender;
  readonly #keys: MadeKey[] = [];
  /** By pod: its lease of each busy key. */
  readonly #leases = Array.from({ length: podCount }, () => new Map<string, string>());

  constructor(postgres: Postgres, origin: string, options: ScaleOptions) {
    this.#postgres = postgres;
    this.#origin = origin;
    this.#options = options;
    const parts = { postgres, clock: systemClock, timeZone };
    this.#settlements = new Settlements(parts);
    const recalls = new Recalls({ books: postgres, clock: systemClock });
    this.#lender = new Lender({ ...parts, leaseTtlMs, recalls, leases: new Leases({ ...parts, leaseTtlMs }) });
  }

  close(): void {
    this.#agent.destroy();
  }

  async measure(): Promise<ScaleResult> {
    const { say, keyCount, rowCount } = this.#options;
    await this.#makeKeys();
    say(`${keyCount} keys are made.`);
    await this.#openLeases();
    const spread = "any keys of any days";
    const size = Math.min(1_000, rowCount / podCount);
    for (let rows = 0; rows < rowCount; rows += size * podCount)
      await this.#runBatches({ size, batches: 1, spread }, (made, pod) => this.#settle(made, pod));
    say(`${rowCount} rows are settled.`);
    // As the database has it in order after a while by itself.
    await this.#postgres.query("ANALYZE");
    const resolve = { alone: await this.#resolve(1), busy: await this.#resolve(16) };
    say("Keys are resolved.");
    const reports = [];
    for (const path of await this.#reportPaths()) reports.push(await this.#report(path));
    say("Reports are read.");
    return { resolve, reports, settle: await this.#compare(), ...(await this.#totals()) };
  }

  async #makeKeys(): Promise<void> {
    const { keyCount } = this.#options;
    const teamCount = Math.max(1, keyCount / 100);
    for (let team = 0; team < teamCount; team++)
      await this.#ask("POST", "/team/new", { team_id: `team-${team}`, max_budget: 1_000_000 });
    const { version } = (await this.#postgres.query<{ version: bigint }>("SELECT version FROM revision"))[0] ?? {
      version: 0n,
    };
    const together = 1_000;
    for (let from = 0; from < keyCount; from += together) {
      await this.#postgres.transaction(async (client) => {
        for (let n = from; n < Math.min(keyCount, from + together); n++) {
          const [teamId, userId] = [`team-${n % teamCount}`, `user-${n % (teamCount * 10)}`];
          const key = { keyId: `key_${randomUUID()}`, secret: `sk-${randomUUID()}`, teamId, userId };
          const { keyId, secret } = key;
          await insertKey(client, {
            ...{
              keyId,
              secretHmac: hashSecret(digestSecret(secret), pepper),
              pepperId: pepper.id,
              masked: "sk-...test",
            },
            ...{ createdBy: "test", requestId: undefined, nowMs: systemClock.nowMs(), version },
            fields: {
              ...{ teamId, userId, maxBudget: 1_000_000_000_000_000n, rpmLimit: 1_000 },
            },
          });
          this.#keys.push(key);
        }
      });
    }
  }

  async #openLeases(): Promise<void> {
    const amount = 1_000_000_000_000n;
    for (const [pod, leases] of this.#leases.entries()) {
      for (const { keyId } of this.#keys.slice(0, busyKeyCount)) {
        const leaseId = randomUUID();
        const ask = {
          requestId: randomUUID(),
          leaseId,
          podId: `pod-${pod}`,
          keyId,
          budgetIds: [],
          min: amount,
          want: amount,
          ahead: 0n,
        };
        const { outcome } = await this.#lender.acquire(ask);
        if (outcome !== "granted") throw new Error(`A lease was not granted: ${outcome}.`);
        leases.set(keyId, leaseId);
      }
    }
  }

  #records(count: number, pod: number, spread: Spread): MadeRecord[] {
    const pick = (of: number) => Math.floor(Math.random() * of);
    const nowMs = systemClock.nowMs();
    const isAny = spread === "any keys of any days";
    return Array.from({ length: count }, (_, n) => {
      const isBusy = pick(10) > 0;
      const busy = Math.min(busyKeyCount, this.#keys.length);
      const place = isAny ? pick(isBusy ? busy : this.#keys.length) : pod * ownKeyCount + pick(ownKeyCount);
      const key = this.#keys[place] as MadeKey;
      const startedAt = new Date(nowMs - (isAny ? pick(dayCount) * 86_400_000 : 0));
      const record = spend(key.keyId, BigInt(1_000 + pick(1_000_000)), {
        ...{
          callId: randomUUIDv7(),
          leaseId: this.#leases[pod]?.get(key.keyId),
          model: models[n % 3] ?? "",
          startedAt,
        },
        ...{ endUser: n % 4 === 0 ? `customer-${pick(200)}` : "", tags: n % 2 === 0 ? [`tag-${pick(20)}`] : [] },
      });
      return { record, key };
    });
  }

  /**
   * Every pod writes batches of its own, one after the other.
   *
   * @returns how long it took, in seconds, the making of the records left out.
   */
  async #runBatches(
    { size, batches, spread }: { readonly size: number; readonly batches: number; readonly spread: Spread },
    write: (records: readonly MadeRecord[], pod: number) => Promise<unknown>,
  ): Promise<number> {
    const made = Array.from({ length: podCount }, (_, pod) =>
      Array.from({ length: batches }, () => this.#records(size, pod, spread)),
    );
    const startMs = performance.now();
    await Promise.all(
      made.map(async (ofPod, pod) => {
        for (const batch of ofPod) await write(batch, pod);
      }),
    );
    return (performance.now() - startMs) / 1_000;
  }

  #settle(made: readonly MadeRecord[], pod: number): Promise<number> {
    return this.#settlements.settle(
      `pod-${pod}`,
      made.map(({ record }) => record),
    );
  }

  async #resolve(atOnce: number): Promise<Latency> {
    const client = createClient(KeyService, createGrpcTransport({ baseUrl: this.#origin }));
    const headers = { authorization: `Bearer ${masterKey}` };
    const tookMs: number[] = [];
    const ask = async () => {
      while (tookMs.length < this.#options.resolveCount) {
        const { secret } = this.#keys[Math.floor(Math.random() * this.#keys.length)] as MadeKey;
        const startMs = performance.now();
        await client.resolveKey({ keySha256: digestSecret(secret) }, { headers });
        tookMs.push(performance.now() - startMs);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, ask));
    return latencyOf(tookMs);
  }

  async #reportPaths(): Promise<string[]> {
    const day = (ago: number) => new Date(systemClock.nowMs() - ago * 86_400_000).toISOString().slice(0, 10);
    const days = `start_date=${day(dayCount)}&end_date=${day(0)}`;
    const week = `start_date=${day(6)}&end_date=${day(0)}`;
    const [key] = this.#keys as [MadeKey];
    return [
      "/global/spend",
      `/global/spend/logs?${days}`,
      "/global/spend/keys?limit=10",
      `/global/spend/models?limit=10`,
      `/global/spend/tags?${days}`,
      `/global/spend/report?${week}&group_by=team`,
      `/global/spend/report?${week}&group_by=customer`,
      `/global/spend/report?${days}&group_by=team&team_id=team-1`,
      `/team/daily/activity?${days}&team_ids=team-1`,
      `/user/daily/activity?${days}&user_id=user-1`,
      `/tag/daily/activity?${days}&tags=tag-1`,
      `/key/info?key=${key.secret}`,
      `/team/info?team_id=team-1`,
      `/spend/logs?api_key=${key.secret}&limit=100`,
      `/spend/logs?limit=100`,
    ];
  }

  async #report(path: string): Promise<Latency & { path: string; bytes: number }> {
    const tookMs: number[] = [];
    let bytes = 0;
    for (let n = 0; n < this.#options.reportCount; n++) {
      const startMs = performance.now();
      bytes = await this.#ask("GET", path);
      tookMs.push(performance.now() - startMs);
    }
    return { path: path.replace(/sk-[^&]*/, "sk-..."), bytes, ...latencyOf(tookMs) };
  }

  /** @returns the answer's length in bytes. */
  #ask(method: string, path: string, body?: object): Promise<number> {
    return new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${masterKey}`, "content-type": "application/json" };
      const request = httpRequest(`${this.#origin}${path}`, { method, headers, agent: this.#agent }, (response) => {
        let bytes = 0;
        response.on("data", (chunk: Buffer) => (bytes += chunk.length));
        response.on("end", () =>
          response.statusCode === 200 ? resolve(bytes) : reject(new Error(`${path}: ${response.statusCode}`)),
        );
      });
      request.on("error", reject);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** Both ways by turns, on tables of the same parts with the same rows and the same indexes. */
  async #compare(): Promise<Throughput[]> {
    await this.#makePlainLog();
    const names = ["pod_id", "team_id", "user_id", ...columns.map(([name]) => name)].join(", ");
    const cast = columns
      .map(([name]) => (name === "tags" || name === "budget_ids" ? `${name}::text[]` : name))
      .join(", ");
    const lists = columns.map(([, type], index) => `$${index + 4}::${type}[]`).join(", ");
    const sql = `INSERT INTO plain_log (${names}) SELECT $1, team_id, user_id, ${cast}
      FROM unnest($2::text[], $3::text[], ${lists}) AS r (team_id, user_id, ${columns.map(([name]) => name).join(", ")})`;
    const insert = (made: readonly MadeRecord[], pod: number) =>
      this.#postgres.query(
        sql,
        [
          ...[`pod-${pod}`, arrayText(made.map(({ key }) => key.teamId)), arrayText(made.map(({ key }) => key.userId))],
          ...columns.map(([, , value]) => arrayText(made.map(({ record }) => value(record)))),
        ],
        "plain",
      );
    const settle = (made: readonly MadeRecord[], pod: number) => this.#settle(made, pod);

    const results: Throughput[] = [];
    for (const spread of ["any keys of any days", "a pod's own keys of today"] as const) {
      for (const size of [100, 500, 1_000]) {
        let [settleSeconds, insertSeconds] = [0, 0];
        const turns = Math.ceil(this.#options.batchCount / (podCount * batchesATurn));
        for (let turn = 0; turn < turns; turn++) {
          settleSeconds += await this.#runBatches({ size, batches: batchesATurn, spread }, settle);
          insertSeconds += await this.#runBatches({ size, batches: batchesATurn, spread }, insert);
        }
        const rows = turns * podCount * batchesATurn * size;
        const [settledPerSecond, insertedPerSecond] = [rows / settleSeconds, rows / insertSeconds];
        results.push({ spread, batchSize: size, settledPerSecond, insertedPerSecond });
      }
    }
    await this.#postgres.query("DROP TABLE plain_log");
    return results;
  }

  async #makePlainLog(): Promise<void> {
    await this.#postgres.transaction(async (client) => {
      // A million rows with all their indexes take longer than any statement of the KeyService may.
      await client.query("SET LOCAL statement_timeout = 0");
      await client.query("CREATE TABLE plain_log (LIKE spend_log INCLUDING ALL) PARTITION BY RANGE (call_id)");
      const parts = await client.query<{ name: string; bounds: string }>(
        `SELECT relname AS name, pg_get_expr(relpartbound, oid) AS bounds FROM pg_class
         WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'spend_log'::regclass)`,
      );
      for (const { name, bounds } of parts)
        await client.query(`CREATE TABLE plain_${name} PARTITION OF plain_log ${bounds}`);
      await client.query("INSERT INTO plain_log SELECT * FROM spend_log");
    });
    await this.#postgres.query("ANALYZE plain_log");
  }

  async #totals(): Promise<{ rowCount: bigint; logged: bigint; summed: bigint }> {
    const [totals] = await this.#postgres.query<{ rows: bigint; logged: bigint; summed: bigint }>(
      `SELECT count(*) AS rows, sum(cost_nanos)::bigint AS logged,
         (SELECT sum(cost_nanos)::bigint FROM daily_spend) AS summed FROM spend_log`,
    );
    if (totals === undefined) throw new Error("The books have no sums.");
    return { rowCount: totals.rows, logged: totals.logged, summed: totals.summed };
  }
}

function latencyOf(tookMs: readonly number[]): Latency {
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
