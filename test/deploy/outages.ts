/** `npm run test:monitoring`: real programs are broken on purpose, until every alert has fired. A few minutes. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Collector } from "../collector.ts";
import { MonitoredStack } from "./monitored-stack.ts";

describe("every alert fires when what it is about happens", { concurrency: false }, () => {
  let collector: Collector;
  let monitored: MonitoredStack;
  let key: string;
  before(async () => {
    collector = await Collector.start();
    monitored = await MonitoredStack.start({
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      // A collector that refuses is tried again for so long.
      OTEL_EXPORTER_OTLP_TIMEOUT: "5000",
      TOLLGATE_KEY_STALE_S: "20",
      TOLLGATE_LEASE_TTL_S: "5",
      TOLLGATE_ALERTING: "webhook",
      WEBHOOK_URL: "http://127.0.0.1:9/nobody-listens",
    });
    key = await monitored.stack.generateKey({ key_alias: "app", rpm_limit: 1_000_000 });
  });
  after(async () => {
    await monitored?.close();
    await collector?.close();
  });

  const callAll = (...models: readonly string[]) => Promise.all(models.map((model) => monitored.call(model, key)));

  test("a call that hangs at a sidecar that ends none", async () => {
    const hanging = monitored.call("hanging", key, { sidecar: 1 }).catch(() => 0);
    await monitored.fires(["TollgateCallsHang"]);
    // It ends with its sidecar, below.
    void hanging;
  });

  test("failures of calls and providers, limits, fallbacks, calls without a price", async () => {
    const limited = await monitored.stack.generateKey({ rpm_limit: 1 });
    await monitored.fires(
      [
        ...["TollgateAvailabilityBurnFast", "TollgateAvailabilityBurnSlow", "TollgateAvailabilityBurnLong"],
        ...["TollgateModelDown", "TollgateProviderDown", "TollgateProviderRateLimited", "TollgateClientsRateLimited"],
        ...["TollgateFallbackRateHigh", "TollgateUnpricedModel"],
      ],
      async () => {
        await callAll("html-error", "unwell", "rate-limited", "down", "nameless");
        await monitored.call("ok", limited);
      },
    );
  });

  test("streams that begin later than they did", async () => {
    const { stack } = monitored;
    const streams = () => Promise.all([1, 2, 3].map(() => monitored.call("ok", key, { fields: { stream: true } })));
    for (let round = 0; round < 20; round++) {
      await streams();
      await sleep(1_000);
    }
    const quick = stack.upstream.scripts.get("ok");
    stack.upstream.scripts.set("ok", async (call, res, request) => {
      await sleep(1_500);
      await quick?.(call, res, request);
    });
    await monitored.fires(["TollgateTimeToFirstTokenRegression"], streams);
    if (quick !== undefined) stack.upstream.scripts.set("ok", quick);
  });

  test("budgets that run out, and spend that jumps", async () => {
    const { stack } = monitored;
    const spentOf = async (spender: string) => Number((await stack.spent(spender)).spent) / 1e9;
    await stack.admin("POST", "/team/new", { team_id: "team-1" });
    for (const share of [0.98, 0.85]) {
      const spender = await stack.generateKey({ max_budget: 100, team_id: "team-1" });
      await monitored.call("dear", spender);
      await stack.booked(spender, 1);
      // A soft budget that is passed makes an alert that nobody takes.
      const max_budget = (await spentOf(spender)) / share;
      await stack.admin("POST", "/key/update", { key: spender, max_budget, soft_budget: 0.000_001 });
    }
    const steady = await stack.generateKey({ max_budget: 1_000_000, team_id: "team-1" });
    const calls = (count: number) => Promise.all(Array.from({ length: count }, () => monitored.call("dear", steady)));
    for (let round = 0; round < 35; round++) {
      await calls(1);
      await sleep(1_000);
    }
    await stack.booked(steady, 35);
    await stack.admin("POST", "/key/update", { key: steady, max_budget: (await spentOf(steady)) * 2.5 });
    await monitored.fires(
      ["TollgateBudgetWarning", "TollgateBudgetCritical", "TollgateBudgetExhaustionPredicted", "TollgateSpendAnomaly"],
      async () => {
        await calls(4);
        await sleep(300);
        await stack.admin("POST", "/key/update", { key: steady, max_budget: (await spentOf(steady)) * 2.5 });
      },
    );
  });

  test("an alert of the KeyService that nobody takes", async () => {
    const { stack } = monitored;
    const soft = await stack.generateKey({ soft_budget: 0.000_001, key_alias: "soft" });
    await monitored.call("dear", soft);
    await monitored.fires(["TollgateAlertsUndelivered"]);
  });

  test("a collector that takes nothing", async () => {
    collector.manner = "refuses";
    await monitored.fires(["TollgateTelemetryDropped"], () => callAll("ok"));
    collector.manner = "takes";
  });

  test("a certificate that nobody renews", async () => {
    monitored.expireCertificate();
    await monitored.fires(["TollgateCertificateExpiring"]);
  });

  test("more keys than are told apart", async () => {
    const { stack } = monitored;
    for (let made = 0; made < 520; made += 5) {
      const keys = await Promise.all(Array.from({ length: 5 }, () => stack.generateKey()));
      for (const status of await Promise.all(keys.map((each) => monitored.call("ok", each)))) assert.equal(status, 200);
    }
    // A count that begins where it is first read has not grown.
    const another = await stack.generateKey();
    await monitored.fires(["TollgateLabelsOverflow"], () => monitored.call("ok", another));
  });

  test("a configuration that cannot be used", async () => {
    const { stack } = monitored;
    const file = readFileSync(stack.configPath, "utf8");
    writeFileSync(stack.configPath, `${file}\nmodel_list: 7\n`);
    await monitored.fires(["TollgateConfigReloadFailed"]);
    writeFileSync(stack.configPath, file);
  });

  test("a slow Redis, and one that is away", async () => {
    monitored.redis.latencyMs = 150;
    await monitored.fires(["TollgateGatewayOverheadHigh"], () => callAll("ok", "ok"));
    monitored.redis.latencyMs = 0;
    monitored.redis.mode = "refuse";
    await monitored.fires(["TollgateRedisDown", "TollgateLimitsDegraded"], () => callAll("ok"));
    monitored.redis.mode = "pass";
  });

  test("a pod that is gone with its leases, and comes back with a damaged journal", async () => {
    const { stack } = monitored;
    const [, pod] = stack.sidecars;
    assert.ok(pod);
    const budgeted = await stack.generateKey({ max_budget: 100 });
    assert.equal(await monitored.call("dear", budgeted, { sidecar: 1 }), 200);
    await pod.process.kill("SIGKILL");
    await monitored.fires(["TollgateSpendUnconfirmed"]);
    const directory = join(pod.dataDir, "journal");
    const [segment = ""] = readdirSync(directory).filter((name) => name.endsWith(".log"));
    const bytes = readFileSync(join(directory, segment));
    writeFileSync(join(directory, segment), Buffer.concat([Buffer.from("no line of a journal\n"), bytes]));
    pod.process.restart();
    await pod.ready();
    await monitored.fires(["TollgateUsageLost"]);
  });

  test("a disk that takes nothing any more", async () => {
    const [, pod] = monitored.stack.sidecars;
    assert.ok(pod);
    await pod.process.kill("SIGTERM");
    pod.process.restartConfined(8);
    await pod.ready();
    await monitored.fires(["TollgateJournalFailing"], () => monitored.call("ok", key, { sidecar: 1 }));
    await pod.process.kill("SIGTERM");
    pod.process.restart();
    await pod.ready();
  });

  test("a database that is away, and then the KeyService", async () => {
    const { stack } = monitored;
    monitored.database.mode = "refuse";
    await monitored.fires(["TollgatePostgresDown"]);
    monitored.database.mode = "pass";
    await stack.keyServiceReady();
    // So that the sidecar knows the key.
    await callAll("ok");
    await stack.keyService.kill("SIGKILL");
    await monitored.fires(["TollgateKeyServiceDown", "TollgateLedgerLag", "TollgateRunningOnStalePolicy"], async () => {
      await callAll("ok");
      await sleep(200);
    });
    stack.keyService.restart();
    await stack.keyServiceReady();
  });

  test("there is none left; the one about no metrics fired before the first were read", () => {
    const missing = monitored.alertNames.filter((name) => !monitored.fired.has(name));
    assert.deepEqual(missing, []);
  });
});
