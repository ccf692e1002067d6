import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { systemRandom } from "../../src/clock.ts";
import type { NewAlert } from "../../src/keyservice/alerts/alert.ts";
import { AlertCourier, type AlertCourierParts } from "../../src/keyservice/alerts/courier.ts";
import { noteAlerts } from "../../src/keyservice/alerts/outbox.ts";
import { type AlertSinks, type AlertTargets, createAlertSinks } from "../../src/keyservice/alerts/sinks.ts";
import { Secret } from "../../src/secret.ts";
import { HttpReceiver, SmtpReceiver } from "../alert-receivers.ts";
import { BooksStage } from "./books-stage.ts";

const secretPath = "/services/T0/B0/not-for-logs";

describe("alerts on their way to those who shall know", () => {
  let stage: BooksStage;
  let slack: HttpReceiver;
  let pager: HttpReceiver;
  let webhook: HttpReceiver;
  let mail: SmtpReceiver;
  let opened: AlertSinks[];
  let logged: string[];

  before(async () => {
    stage = await BooksStage.open();
  });
  after(() => stage.close());

  beforeEach(async () => {
    await stage.postgres.query("DELETE FROM alerts");
    slack = await HttpReceiver.open();
    pager = await HttpReceiver.open();
    webhook = await HttpReceiver.open();
    mail = await SmtpReceiver.open();
    opened = [];
    logged = [];
  });
  afterEach(async () => {
    for (const each of opened) await each.close();
    for (const receiver of [slack, pager, webhook, mail]) await receiver.close();
  });

  function targets(): AlertTargets {
    return {
      slack: { url: new Secret(`${slack.origin}${secretPath}`), urlsByType: new Map() },
      pagerDuty: { url: `${pager.origin}/v2/enqueue`, routingKey: new Secret("routing-key") },
      webhook: { url: new Secret(`${webhook.origin}${secretPath}`) },
      email: {
        ...{
          host: "127.0.0.1",
          port: mail.port,
          username: "mailer",
          password: new Secret("mail-password"),
          tls: false,
        },
        ...{ sender: "tollgate@example.com", recipients: ["ops@example.com", "money@example.com"] },
      },
      types: undefined,
    };
  }

  function courier(given: AlertTargets = targets(), options: Partial<AlertCourierParts> = {}) {
    const log = (level: string, message: string, facts: object = {}) =>
      void logged.push(`${level} ${message} ${JSON.stringify(facts)}`);
    const sinks = createAlertSinks(given, log);
    opened.push(sinks);
    return new AlertCourier({
      ...{ books: stage.postgres, clock: stage.clock, random: systemRandom, log, sinks: sinks.sinks },
      watches: options.watches ?? [],
      retryFirstMs: 0,
      ...options,
    });
  }

  const periodStart = new Date("2026-11-01T00:00:00Z");

  async function note(alert: Partial<NewAlert> = {}): Promise<void> {
    const base: NewAlert = {
      ...{ kind: "budget_80", scope: "team", scopeId: "team-1", budgetId: "budget-1", periodStart, duration: "30d" },
      ...{ spent: 8_100_000_001n, max: 10_000_000_000n },
    };
    await noteAlerts(stage.postgres, [{ ...base, ...alert }], new Date("2026-11-20T10:00:00Z"));
  }

  const rows = () =>
    stage.postgres.query<{ delivered_to: string[]; attempts: number; due: boolean }>(
      "SELECT delivered_to, attempts, next_attempt_at IS NOT NULL AS due FROM alerts ORDER BY alert_id",
    );

  it("an alert reaches every sink in its own form", async () => {
    await stage.postgres.query(
      "INSERT INTO entities (scope, entity_id, alias, created_by, updated_by, version) VALUES ('team', 'team-1', 'Search <!here>', 'test', 'test', 1)",
    );
    await note();
    await courier().deliverDue();

    const [message] = slack.posted;
    assert.equal(message?.path, secretPath);
    assert.match(
      message?.body.text,
      /^:warning: \*80 % of the budget is spent: team Search &lt;!here&gt; \(team-1\)\*\n/,
    );
    assert.match(message?.body.text, /\nspent_usd: `8\.100000001`\nmax_budget_usd: `10`\n/);

    const [event] = pager.posted;
    assert.equal(event?.path, "/v2/enqueue");
    const { payload, dedup_key: dedupKey, ...head } = event?.body ?? {};
    assert.deepEqual(head, { routing_key: "routing-key", event_action: "trigger" });
    assert.match(dedupKey, /^tollgate-[0-9a-f]{40}$/);
    assert.equal(payload.severity, "warning");
    assert.equal(payload.summary, "80 % of the budget is spent: team Search <!here> (team-1)");
    assert.equal(payload.custom_details.spent_usd, "8.100000001");

    const [post] = webhook.posted;
    assert.equal(post?.headers["idempotency-key"], dedupKey);
    assert.deepEqual(post?.body, {
      ...{ event: "threshold_crossed", event_group: "team" },
      event_message: "80 % of the budget is spent: team Search <!here> (team-1)",
      ...{ spend: 8.100000001, max_budget: 10, team_id: "team-1", team_alias: "Search <!here>", id: dedupKey },
      ...{ kind: "budget_80", severity: "warning", scope: "team", scope_id: "team-1", budget_id: "budget-1" },
      ...{ period_start: "2026-11-01T00:00:00.000Z", budget_duration: "30d" },
      ...{ spend_usd: "8.100000001", max_budget_usd: "10", occurred_at: "2026-11-20T10:00:00.000Z", facts: {} },
    });

    const [letter] = mail.mails;
    assert.equal(letter?.from, "tollgate@example.com");
    assert.deepEqual(letter?.to, ["ops@example.com", "money@example.com"]);
    assert.equal(letter?.login, "\0mailer\0mail-password");
    assert.match(letter?.data ?? "", new RegExp(`^Message-ID: <${dedupKey}@tollgate>$`, "m"));
    assert.match(letter?.data ?? "", /^Subject: \[Tollgate\] 80 % of the budget is spent: team Search/m);
    assert.match(letter?.data ?? "", /^max_budget_usd: 10$/m);

    assert.deepEqual(await rows(), [
      { delivered_to: ["email", "log", "pagerduty", "slack", "webhook"], attempts: 1, due: false },
    ]);
  });

  it("of a key it is told by its alias and whom it belongs to, and never by its secret", async () => {
    const keyId = await stage.key(1_000n, "1d", "sk-secret-of-a-key");
    await stage.postgres.query("UPDATE keys SET alias = 'ci', user_id = 'ann', team_id = 'team-2' WHERE key_id = $1", [
      keyId,
    ]);
    await note({ scope: "key", scopeId: keyId });
    await note({ scope: "team_member", scopeId: "a:b:team-3" });
    await courier().deliverDue();
    const [ofKey, ofMember] = webhook.posted.map(({ body }) => body);
    assert.deepEqual(
      [ofKey.event_group, ofKey.token, ofKey.key_alias, ofKey.user_id, ofKey.team_id],
      ["key", keyId, "ci", "ann", "team-2"],
    );
    assert.deepEqual([ofMember.event_group, ofMember.user_id, ofMember.team_id], ["user", "a:b", "team-3"]);
    assert.doesNotMatch(JSON.stringify(webhook.posted), /sk-secret/);
  });

  it("is noted once however often it happens, and again for another window or thing", async () => {
    await Promise.all(Array.from({ length: 20 }, () => note()));
    await note({ scopeId: "team-2" });
    await note({ periodStart: new Date("2026-12-01T00:00:00Z") });
    await note({ kind: "budget_95" });
    await courier().deliverDue();
    assert.equal(webhook.posted.length, 4);
    assert.equal(new Set(webhook.posted.map(({ body }) => body.id)).size, 4);
  });

  it("a sink that fails gets it later, and those that have it are left alone", async () => {
    slack.statuses.push(500);
    pager.statuses.push(429);
    mail.failures = 1;
    await note();
    const replica = courier();
    await replica.deliverDue();
    assert.deepEqual(await rows(), [{ delivered_to: ["log", "webhook"], attempts: 1, due: true }]);
    await replica.deliverDue();
    assert.deepEqual(await rows(), [
      { delivered_to: ["email", "log", "pagerduty", "slack", "webhook"], attempts: 2, due: false },
    ]);
    for (const receiver of [slack, pager, webhook]) assert.equal(receiver.posted.length, 1);
    assert.equal(mail.mails.length, 1);
    const failures = logged.filter((line) => line.includes("could not be delivered"));
    assert.deepEqual(failures.map((line) => /"sink":"(\w+)".*"reason":"([^"]*)"/.exec(line)?.slice(1)).toSorted(), [
      ["email", "It answered 451."],
      ["pagerduty", "It answered 429."],
      ["slack", "It answered 500."],
    ]);
  });

  it("waits longer after each failure, and does not try before", async () => {
    await note();
    slack.statuses.push(...Array.from({ length: 9 }, () => 500));
    const replica = courier(targets(), { retryFirstMs: 60_000 });
    const waits: number[] = [];
    for (let round = 0; round < 8; round++) {
      await replica.deliverDue();
      await replica.deliverDue();
      const [row] = await stage.postgres.query<{ wait_s: number; attempts: number }>(
        "SELECT extract(epoch FROM next_attempt_at - now())::float8 AS wait_s, attempts FROM alerts",
      );
      assert.equal(row?.attempts, round + 1, "one attempt a round");
      waits.push(row?.wait_s ?? 0);
      await stage.postgres.query("UPDATE alerts SET next_attempt_at = now()");
    }
    for (const [round, wait] of waits.entries()) {
      const ceiling = Math.min(3_600, 60 * 2 ** round);
      assert.ok(wait > ceiling / 2 - 5 && wait <= ceiling, `round ${round}: ${wait} s of at most ${ceiling}`);
    }
  });

  it("is given up after a day, and the log says to whom it was not told", async () => {
    await note();
    slack.statuses.push(500, 500);
    const replica = courier();
    await replica.deliverDue();
    await stage.postgres.query("UPDATE alerts SET first_attempt_at = now() - interval '25 hours'");
    await replica.deliverDue();
    assert.equal((await rows())[0]?.due, false);
    assert.match(logged.at(-1) ?? "", /^error An alert was given up.*"attempts":2,"missing":"slack"/);
  });

  it("of two replicas on the same books one delivers", async () => {
    for (let team = 0; team < 50; team++) await note({ scopeId: `team-${team}` });
    const replicas = [courier(), courier()];
    await Promise.all(replicas.flatMap((replica) => [replica.deliverDue(), replica.deliverDue()]));
    for (const receiver of [slack, pager, webhook]) {
      assert.equal(receiver.posted.length, 50);
    }
    assert.equal(mail.mails.length, 50);
    assert.equal(new Set(webhook.posted.map(({ body }) => body.id)).size, 50);
  });

  it("what a dead replica had claimed is delivered when its claim ends, with the same key", async () => {
    await note();
    await courier().deliverDue();
    await stage.postgres.query("UPDATE alerts SET delivered_to = '{}', next_attempt_at = now() + interval '2 minutes'");
    await courier().deliverDue();
    assert.equal(webhook.posted.length, 1, "the claim holds");
    await stage.postgres.query("UPDATE alerts SET next_attempt_at = now()");
    await courier().deliverDue();
    const [first, second] = webhook.posted;
    assert.equal(first?.body.id, second?.body.id);
    assert.equal(pager.posted[0]?.body.dedup_key, pager.posted[1]?.body.dedup_key);
  });

  it("a sink that does not answer holds up neither the others nor the end of the program", async () => {
    slack.statuses.push(...Array.from({ length: 50 }, () => 0));
    for (let team = 0; team < 5; team++) await note({ scopeId: `team-${team}` });
    const replica = courier();
    const delivering = replica.deliverDue();
    while (webhook.posted.length < 5) await new Promise((resolve) => setTimeout(resolve, 10));
    const began = performance.now();
    await replica.close();
    await delivering;
    assert.ok(performance.now() - began < 5_000, "closing breaks off what hangs");
    assert.ok((await rows()).every(({ due, delivered_to }) => due && !delivered_to.includes("slack")));
  });

  it("a sink that is away is left alone for a while, so that further alerts do not wait for it", async () => {
    for (let team = 0; team < 30; team++) await note({ scopeId: `team-${team}` });
    const away = targets();
    let nowMs = 0;
    const clock = { ...stage.clock, monotonicMs: () => nowMs };
    const replica = courier(away, { clock, retryFirstMs: 60_000 });
    await slack.close();
    await replica.deliverDue();
    assert.equal(webhook.posted.length, 30, "the others have them all");
    assert.equal(logged.filter((line) => line.includes('"sink":"slack"')).length, 1, "one try for three batches");
    assert.ok((await rows()).every(({ due }) => due));
    nowMs = 60_000;
    await stage.postgres.query("UPDATE alerts SET next_attempt_at = now()");
    await replica.deliverDue();
    assert.equal(logged.filter((line) => line.includes('"sink":"slack"')).length, 2);
    assert.equal(webhook.posted.length, 30);
    slack = await HttpReceiver.open();
  });

  it("a watch that fails keeps neither what is noted nor another watch from its turn", async () => {
    await note();
    let looks = 0;
    const watches = [
      { intervalMs: 60_000, look: () => Promise.reject(new Error("a bug")) },
      { intervalMs: 60_000, look: async () => void looks++ },
    ];
    const replica = courier(targets(), { watches, intervalMs: 10 });
    replica.start();
    while (looks === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await note({ scopeId: "team-2" });
    while (webhook.posted.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    await replica.close();
    assert.equal(looks, 1, "each at its own pace");
  });

  it("alerts of types nobody asked for go to the log alone", async () => {
    await note();
    await note({ kind: "provider_down", scope: "deployment", scopeId: "d1", budgetId: "" });
    await courier({ ...targets(), types: new Set(["outage_alerts"]) }).deliverDue();
    assert.deepEqual(
      webhook.posted.map(({ body }) => body.event),
      ["provider_down"],
    );
    assert.equal(logged.filter((line) => line.startsWith("warn")).length, 2);
  });

  it("a type may have Slack addresses of its own", async () => {
    const urls = ["/one", "/two"].map((path) => new Secret(`${slack.origin}${path}`));
    await note();
    await note({ kind: "provider_down", scope: "deployment", scopeId: "d1", budgetId: "" });
    const given = {
      url: new Secret(`${slack.origin}/common`),
      urlsByType: new Map([["outage_alerts", urls] as const]),
    };
    await courier({ ...targets(), slack: given }).deliverDue();
    assert.deepEqual(slack.posted.map(({ path }) => path).toSorted(), ["/common", "/one", "/two"]);
  });

  it("the end of an outage resolves the incident that its beginning made", async () => {
    const about = {
      scope: "deployment",
      scopeId: "d1",
      budgetId: "",
      spent: undefined,
      max: undefined,
      duration: undefined,
    };
    await note({ ...about, kind: "provider_down" });
    await note({ ...about, kind: "provider_up" });
    await courier().deliverDue();
    const [down, up] = pager.posted.map(({ body }) => body);
    assert.deepEqual([down.event_action, down.payload.severity, up.event_action], ["trigger", "critical", "resolve"]);
    assert.equal(down.dedup_key, up.dedup_key);
    assert.equal(webhook.posted[0]?.body.event_group, "proxy");
    assert.ok(!("spend" in webhook.posted[0].body));
  });

  it("mail is not sent in the clear unless that is asked for", async () => {
    const given = targets();
    assert.ok(given.email);
    await note();
    await courier({ ...given, email: { ...given.email, tls: true } }).deliverDue();
    assert.ok(mail.connections > 0);
    assert.equal(mail.mails.length, 0);
    assert.ok(logged.some((line) => line.includes('"sink":"email"') && line.includes("could not be delivered")));
  });

  it("no address, routing key or password is ever in the log", async () => {
    await note();
    const given = targets();
    for (const receiver of [slack, webhook]) receiver.statuses.push(403);
    pager.statuses.push(400);
    mail.failures = 1;
    await courier().deliverDue();
    await Promise.all([slack.close(), pager.close(), webhook.close(), mail.close()]);
    await stage.postgres.query("UPDATE alerts SET next_attempt_at = now()");
    await courier(given).deliverDue();
    assert.equal(logged.filter((line) => line.includes("could not be delivered")).length, 8, logged.join("\n"));
    assert.doesNotMatch(logged.join("\n"), /not-for-logs|routing-key|mail-password|127\.0\.0\.1/);
    [slack, pager, webhook] = [await HttpReceiver.open(), await HttpReceiver.open(), await HttpReceiver.open()];
    mail = await SmtpReceiver.open();
  });
});
