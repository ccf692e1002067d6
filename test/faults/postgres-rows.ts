import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { AuthorityUnavailable } from "../../src/keys/authority.ts";
import { RemoteAuthority } from "../../src/keys/remote.ts";
import { Secret } from "../../src/secret.ts";
import { accountOf } from "./audit.ts";
import { onlyStatuses, type Row, type Scene, seconds } from "./row.ts";
import { pause, runtimeToken, type World } from "./world.ts";

const asKeyService =
  "admin writes 503; calls as when the KeyService is away; the KeyService lives on; nothing acknowledged is lost";

export const postgresRows: readonly Row[] = [
  {
    name: "12",
    fault: "PostgreSQL stopped at once (SIGQUIT), started again",
    promise: asKeyService,
    run: (scene) =>
      outage(scene, {
        inject: ({ world }) => world.endPostgres("SIGQUIT"),
        heal: ({ world }) => world.restartPostgres(),
      }),
  },
  {
    name: "13",
    fault: "PostgreSQL killed (kill -9), started again",
    promise: `${asKeyService}; the pool connects again, no transaction is left open`,
    isQuick: true,
    run: (scene) =>
      outage(scene, {
        inject: ({ world }) => world.endPostgres("SIGKILL"),
        heal: ({ world }) => world.restartPostgres(),
      }),
  },
  {
    name: "14",
    fault: "64 pods borrow, settle and give back on one budget at once, while another session makes deadlocks",
    promise:
      "no serialization failure and no deadlock reaches them; what is late is asked again and done once; the books add up",
    run: async (scene) => {
      const { world } = scene;
      const key = await scene.key("contested", { max_budget: 1000 });
      const end = performance.now() + scene.seconds * 1000;
      const clients = Array.from({ length: 64 }, (_, index) => stormClient(world, key.keyId, `storm-${index}`, end));
      const [counts, locks] = await Promise.all([Promise.all(clients), makeDeadlocks(world, key.keyId, end)]);
      const operations = counts.reduce((total, each) => total + each.operations, 0);
      const cost = counts.reduce((total, each) => total + each.cost, 0n);
      const late = counts.reduce((total, each) => total + each.late, 0);
      const account = await accountOf(world, key.keyId);
      assert.deepEqual([account.spent, account.reserved], [cost, 0n]);
      const [row] = await world.query<{ deadlocks: bigint }>(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
      );
      return [
        `${operations} operations by 64 pods without an error, ${Math.round(operations / scene.seconds)} a second; ${late} were late or told to wait, and asked again`,
        `${locks} transactions of the other session, ${row?.deadlocks ?? 0n} deadlocks in the database`,
      ];
    },
  },
  {
    name: "15",
    fault: "PostgreSQL turns read-only (a failover's old primary), connections cut",
    promise: `${asKeyService}; what was not taken is sent again and booked once`,
    run: (scene) => {
      const set = async (world: World, value: "on" | "off") => {
        await world.query(`ALTER SYSTEM SET default_transaction_read_only = ${value}`);
        await world.query("SELECT pg_reload_conf()");
        await world.query(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate-keyservice'",
        );
      };
      return outage(scene, {
        inject: ({ world }) => set(world, "on"),
        heal: async ({ world }) => {
          await world.query("SET default_transaction_read_only = off; SELECT 1");
          await set(world, "off");
        },
      });
    },
  },
];

interface Outage {
  readonly inject: (scene: Scene) => Promise<void>;
  readonly heal: (scene: Scene) => Promise<void>;
}

/** An outage of the books, with an operator who goes on making keys through it. */
async function outage(scene: Scene, parts: Outage): Promise<string[]> {
  const { world } = scene;
  const acknowledged: string[] = [];
  const statuses = new Map<number, number>();
  let isOver = false;
  const operator = (async () => {
    for (let number = 0; !isOver; number++) {
      const alias = `written-${number}-${randomUUID()}`;
      const { status } = await world.admin("/key/generate", { key_alias: alias });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (status === 200) acknowledged.push(alias);
      await pause(50);
    }
  })();
  let backMs = 0;
  const incident = await scene.incident({
    inject: () => parts.inject(scene),
    heal: async () => {
      const before = acknowledged.length;
      await parts.heal(scene);
      const startMs = performance.now();
      while (acknowledged.length === before && performance.now() - startMs < 20_000) await pause(20);
      backMs = performance.now() - startMs;
    },
  });
  isOver = true;
  await operator;
  assert.ok(!world.keyService.ended, "the KeyService has ended");
  onlyStatuses(incident.outcomes, 200, 429, 503);
  assert.deepEqual(
    [...statuses.keys()].filter((status) => status !== 200 && status !== 503),
    [],
  );
  assert.ok((statuses.get(503) ?? 0) > 0, "no write was refused");
  const kept = await world.query("SELECT FROM keys WHERE alias = ANY ($1)", [acknowledged]);
  assert.equal(kept.length, acknowledged.length, "an acknowledged key is lost");
  const open = await world.query(
    "SELECT FROM pg_stat_activity WHERE application_name = 'tollgate-keyservice' AND state LIKE 'idle in transaction%' AND state_change < now() - interval '5 seconds'",
  );
  assert.equal(open.length, 0, "a transaction was left open");
  return [
    ...incident.facts,
    `keys made through it: ${acknowledged.length} acknowledged, all kept; ${statuses.get(503)} refused with 503; written again after ${seconds(backMs)}`,
  ];
}

/** One pod's dealings with the KeyService, as fast as it can. */
async function stormClient(world: World, keyId: string, podId: string, endMs: number) {
  const authority = new RemoteAuthority({
    url: world.keyServiceUrl,
    token: new Secret(runtimeToken),
    ...{ podId, clock: systemClock, random: systemRandom },
  });
  let [operations, cost, late] = [0, 0n, 0];
  // As a pod does: what was not answered in time is asked again under the same id.
  const ask = async <Answer>(question: () => Promise<Answer>): Promise<Answer> => {
    for (;;) {
      try {
        const answer = await question();
        operations++;
        return answer;
      } catch (error) {
        const code = error instanceof AuthorityUnavailable ? ConnectError.from(error.cause).code : undefined;
        if (code !== Code.DeadlineExceeded && code !== Code.Unavailable) throw error;
        late++;
      }
    }
  };
  try {
    while (performance.now() < endMs) {
      const [leaseId, requestId] = [randomUUID(), randomUUID()];
      const lease = await ask(() =>
        authority.acquire({ requestId, leaseId, keyId, budgetIds: [], min: 1_000n, want: 5_000n, ahead: 0n }),
      );
      assert.equal(lease.outcome, "granted");
      const spent = record(keyId, leaseId, 700n);
      await ask(() => authority.settle([spent]));
      cost += 700n;
      const back = { requestId: randomUUID(), leaseId, amount: 4_300n, close: true };
      await ask(() => authority.giveBack([back]));
    }
  } finally {
    await authority.close();
  }
  return { operations, cost, late };
}

/** Locks the budget's rows in the wrong order, again and again. Mostly loses itself, now and then makes others lose. */
async function makeDeadlocks(world: World, keyId: string, endMs: number): Promise<number> {
  let count = 0;
  while (performance.now() < endMs) {
    // The database asks the session whose patience ends first to give way.
    const patience = count % 5 === 4 ? "5s" : "10ms";
    const sql = `
      BEGIN;
      SET LOCAL deadlock_timeout = '${patience}';
      UPDATE budget_periods SET spent_nanos = spent_nanos
        WHERE budget_id IN (SELECT budget_id FROM budgets WHERE scope_id = '${keyId}');
      SELECT pg_sleep(0.02);
      UPDATE leases SET corrections = corrections WHERE key_id = '${keyId}' AND state = 'open';
      COMMIT`;
    await world.query(sql).catch(() => {});
    count++;
    await pause(300);
  }
  return count;
}

function record(keyId: string, leaseId: string, cost: bigint) {
  const nowMs = systemClock.nowMs();
  return {
    ...{ callId: randomUUID(), attempt: 1, keyId, leaseId, cost, reserved: cost, status: "success" as const },
    ...{
      usageEstimated: false,
      operation: "chat" as const,
      modelGroup: "m",
      model: "m",
      provider: "p",
      deploymentId: "d",
    },
    ...{ inputTokens: 1, outputTokens: 1, cacheReadInputTokens: 0, cacheWriteInputTokens: 0, reasoningOutputTokens: 0 },
    ...{ startedAtMs: nowMs, endedAtMs: nowMs, firstOutputAtMs: undefined, priceVersion: "", endUser: "", tags: [] },
    ...{ providerResponseId: "", traceId: "", budgetIds: [], cacheHit: false },
  };
}
