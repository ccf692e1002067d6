import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import type { SpendRecord } from "../../src/keys/authority.ts";
import { Journal, journalDefaults } from "../../src/keys/journal.ts";
import { Shipper } from "../../src/keys/shipper.ts";
import { HandClock } from "./hand-clock.ts";
import { PaperAuthority } from "./paper-authority.ts";
import { Log, sampleOpen, sampleSettled } from "./samples.ts";

const root = mkdtempSync(join(tmpdir(), "tollgate-shipper-"));
after(() => rmSync(root, { recursive: true, force: true }));

function setUp(directory = mkdtempSync(join(root, "s-"))) {
  const clock = new HandClock();
  const authority = new PaperAuthority({ clock });
  authority.budgets.set("key_1", { max: undefined, spent: 0n, reserved: 0n });
  const telemetry = new Log();
  const journal = new Journal({ ...journalDefaults, fsync: "none", directory, clock, telemetry, newId: randomUUID });
  const told: SpendRecord[] = [];
  const onBooked = (records: readonly SpendRecord[]) => told.push(...records);
  const shipper = new Shipper({ journal, authority, clock, random: () => 0.5, telemetry, onBooked });
  const settle = (count: number, facts: Partial<SpendRecord> = {}) => {
    for (let index = 0; index < count; index++) journal.appendSettled(sampleSettled(sampleOpen(), facts), undefined);
  };
  return { clock, authority, journal, shipper, settle, told, directory };
}

describe("the shipper", () => {
  it("brings records to the books within moments, several in one batch", async () => {
    const { clock, authority, journal, shipper, settle, told } = setUp();
    shipper.start();
    settle(30);
    await clock.advance(150);
    assert.equal(authority.booked.size, 30);
    assert.equal(authority.settleCount, 1);
    assert.equal(journal.pendingCount, 0);
    assert.equal(told.length, 30);
    settle(1);
    await clock.advance(150);
    assert.equal(authority.booked.size, 31);
  });

  it("does not wait for company when a batch is full", async () => {
    const { clock, authority, shipper, settle } = setUp();
    shipper.start();
    settle(1_700);
    await clock.advance(50);
    assert.ok(authority.booked.size >= 1_500);
    await clock.advance(150);
    assert.equal(authority.booked.size, 1_700);
    assert.equal(authority.settleCount, 4);
  });

  it("keeps trying while the KeyService is away, ever more slowly, and books everything once it is back", async () => {
    const { clock, authority, journal, shipper, settle } = setUp();
    shipper.start();
    authority.trouble.away = true;
    settle(10);
    for (let second = 0; second < 60; second++) {
      settle(20);
      await clock.advance(1_000);
    }
    assert.ok(authority.settleCount < 40, `${authority.settleCount} attempts in a minute`);
    assert.equal(journal.pendingCount, 1_210);
    authority.trouble.away = false;
    await clock.advance(4_200);
    assert.equal(authority.booked.size, 1_210);
    assert.equal(journal.pendingCount, 0);
  });

  it("sends again what may have been booked, and it is booked once", async () => {
    const { clock, authority, shipper, settle } = setUp();
    shipper.start();
    authority.trouble.mute = true;
    settle(10);
    await clock.advance(1_000);
    authority.trouble.mute = false;
    await clock.advance(5_000);
    assert.equal(authority.booked.size, 10);
    assert.equal(authority.budgets.get("key_1")?.spent, 7_000n);
  });

  it("parks what the KeyService will never take, and books all the rest", async () => {
    const { clock, authority, journal, shipper, settle, told, directory } = setUp();
    authority.isPoison = (record) => record.model === "poison";
    shipper.start();
    settle(300);
    settle(1, { model: "poison" });
    settle(500);
    settle(2, { model: "poison" });
    settle(40);
    await clock.advance(5_000);
    assert.equal(authority.booked.size, 840);
    assert.equal(journal.pendingCount, 0);
    assert.deepEqual(shipper.stats(), { booked: 840, rejected: 3, failures: 0 });
    assert.equal(told.length, 843);
    assert.equal(readFileSync(join(directory, "rejected.log"), "utf8").trim().split("\n").length, 3);
    assert.ok(authority.settleCount < 80, `${authority.settleCount} batches`);
  });

  it("flush ships at once, and gives up at its deadline", async () => {
    const { clock, authority, shipper, settle } = setUp();
    shipper.start();
    settle(3);
    const flushed = shipper.flush(1_000);
    await clock.advance(20);
    assert.equal(await flushed, true);
    assert.equal(authority.booked.size, 3);
    authority.trouble.away = true;
    settle(3);
    const late = shipper.flush(1_000);
    await clock.advance(1_000);
    assert.equal(await late, false);
  });

  it("ships what a former process has left", async () => {
    const first = setUp();
    first.settle(5);
    const open = sampleOpen({ reserved: 11n });
    first.journal.appendOpen(open);
    await first.journal.close();
    const second = setUp(first.directory);
    second.shipper.start();
    await second.clock.advance(500);
    assert.equal(second.authority.booked.size, 6);
    assert.equal(second.authority.booked.get(`${open.callId}/1`)?.status, "unconfirmed");
    const closing = second.shipper.close();
    await second.clock.advance(100);
    await closing;
  });
});
