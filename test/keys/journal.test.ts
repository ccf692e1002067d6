import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { systemClock } from "../../src/clock.ts";
import type { SpendRecord } from "../../src/keys/authority.ts";
import { Journal, journalDefaults } from "../../src/keys/journal.ts";
import { readLines, writeLine } from "../../src/keys/journal-line.ts";
import { nameSegment, thisProcess } from "../../src/keys/journal-owner.ts";
import { Log, sampleOpen, sampleSettled } from "./samples.ts";

const root = mkdtempSync(join(tmpdir(), "tollgate-journal-"));
after(() => rmSync(root, { recursive: true, force: true }));

function freshDirectory(): string {
  return mkdtempSync(join(root, "j-"));
}

function openJournal(
  directory: string,
  parts: { segmentBytes?: number; pendingMax?: number; log?: Log } = {},
): Journal {
  return new Journal({
    ...journalDefaults,
    segmentBytes: parts.segmentBytes ?? journalDefaults.segmentBytes,
    pendingMax: parts.pendingMax ?? journalDefaults.pendingMax,
    directory,
    clock: systemClock,
    telemetry: parts.log ?? new Log(),
    newId: randomUUID,
  });
}

function segmentsIn(directory: string): string[] {
  return readdirSync(directory).filter((name) => /^\d.*\.log$/.test(name));
}

/** A segment as a process that is gone would have left it. */
function leave(directory: string, bytes: Buffer, sequence = 1): string {
  const path = join(directory, nameSegment({ pid: 0, started: "0", nonce: "gone" }, sequence));
  writeFileSync(path, bytes);
  return path;
}

function drain(journal: Journal): SpendRecord[] {
  const records: SpendRecord[] = [];
  for (let batch = journal.peek(7); batch.length > 0; batch = journal.peek(7)) {
    records.push(...batch);
    journal.ack(batch.length);
  }
  return records;
}

describe("the journal", () => {
  it("gives back what was settled, in order and whole", async () => {
    const journal = openJournal(freshDirectory());
    const records = [];
    for (let index = 0; index < 20; index++) {
      const open = sampleOpen({ endUser: `user-${index}-ü` });
      const begun = journal.appendOpen(open);
      const record = sampleSettled(open, index % 2 === 0 ? { firstOutputAtMs: 5 } : {});
      assert.equal(journal.appendSettled(record, begun), true);
      records.push(record);
    }
    assert.equal(journal.pendingCount, 20);
    assert.deepEqual(drain(journal), records);
    assert.equal(journal.pendingCount, 0);
    await journal.close();
  });

  it("leaves nothing behind when everything is booked", async () => {
    const directory = freshDirectory();
    const journal = openJournal(directory);
    const open = sampleOpen();
    const begun = journal.appendOpen(open);
    journal.leaseOpened("lease", "key_1");
    journal.appendSettled(sampleSettled(open), begun);
    journal.ack(1);
    journal.leaseClosed("lease");
    await journal.close();
    assert.deepEqual(segmentsIn(directory), []);
  });

  it("hands what is not booked to the next process, an attempt without end as unconfirmed", async () => {
    const directory = freshDirectory();
    const first = openJournal(directory);
    const done = sampleOpen({ leaseId: "lease_a" });
    const lost = sampleOpen({ leaseId: "lease_a", reserved: 900n, tags: ["x"] });
    first.leaseOpened("lease_a", "key_1");
    first.leaseOpened("lease_b", "key_1");
    first.leaseOpened("lease_c", "key_1");
    first.leaseClosed("lease_c");
    const begun = first.appendOpen(done);
    first.appendOpen(lost);
    first.appendSettled(sampleSettled(done), begun);
    await first.close();

    const second = openJournal(directory);
    assert.deepEqual(
      new Map(second.formerLeases),
      new Map([
        ["lease_a", 1_600n],
        ["lease_b", 0n],
      ]),
    );
    assert.equal(second.stats().unconfirmed, 1);
    const records = drain(second);
    assert.deepEqual(
      records.map(({ callId, cost, status }) => ({ callId, cost, status })).sort((a, b) => (a.cost < b.cost ? -1 : 1)),
      [
        { callId: done.callId, cost: 700n, status: "success" },
        { callId: lost.callId, cost: 900n, status: "unconfirmed" },
      ],
    );
    assert.deepEqual(records.find(({ callId }) => callId === lost.callId)?.tags, ["x"]);
    second.leaseClosed("lease_a");
    second.leaseClosed("lease_b");
    await second.close();
    assert.deepEqual(segmentsIn(directory), []);
  });

  it("leaves the segments of living processes alone, its own included", async () => {
    const directory = freshDirectory();
    const one = openJournal(directory);
    one.appendSettled(sampleSettled(sampleOpen()), undefined);
    const two = openJournal(directory);
    assert.equal(two.pendingCount, 0);
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000); console.log('up')"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    await once(child.stdout, "data");
    const { pid } = child;
    assert.ok(pid);
    const started = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ")[19];
    assert.ok(started);
    writeFileSync(
      join(directory, nameSegment({ pid, started, nonce: "child" }, 1)),
      writeLine({ type: "settled", record: sampleSettled(sampleOpen()) }),
    );
    const three = openJournal(directory);
    assert.equal(three.pendingCount, 0);
    child.kill("SIGKILL");
    await once(child, "exit");
    const four = openJournal(directory);
    assert.equal(four.pendingCount, 1);
    for (const journal of [one, two, three, four]) await journal.close();
  });

  it("takes over from a former process of its own number", () => {
    const directory = freshDirectory();
    const { pid, started } = thisProcess("x");
    const former = { pid, started: String(Number(started) - 1), nonce: "former" };
    writeFileSync(
      join(directory, nameSegment(former, 1)),
      writeLine({ type: "settled", record: sampleSettled(sampleOpen()) }),
    );
    assert.equal(openJournal(directory).pendingCount, 1);
  });

  it("segments follow each other and go when they are booked, while open attempts and leases are carried on", async () => {
    const directory = freshDirectory();
    const journal = openJournal(directory, { segmentBytes: 4_000 });
    const long = sampleOpen({ reserved: 5n });
    journal.leaseOpened("lease", "key_1");
    journal.appendOpen(long);
    for (let index = 0; index < 100; index++) {
      const open = sampleOpen();
      journal.appendSettled(sampleSettled(open), journal.appendOpen(open));
    }
    assert.ok(journal.stats().segments > 10);
    assert.equal(drain(journal).length, 100);
    assert.equal(journal.stats().segments, 1);
    assert.equal(segmentsIn(directory).length, 1);
    await journal.close();
    const heir = openJournal(directory);
    assert.ok(heir.formerLeases.has("lease"));
    assert.ok(drain(heir).some(({ callId, cost }) => callId === long.callId && cost === 5n));
  });

  it("keeps a bounded number of waiting records in memory and reads the rest again", async () => {
    const directory = freshDirectory();
    const journal = openJournal(directory, { segmentBytes: 10_000, pendingMax: 10 });
    const ids: string[] = [];
    const add = (count: number) => {
      for (let index = 0; index < count; index++) {
        const open = sampleOpen();
        ids.push(open.callId);
        journal.appendSettled(sampleSettled(open), journal.appendOpen(open));
      }
    };
    add(300);
    assert.equal(journal.pendingCount, 300);
    const first = journal.peek(50);
    assert.equal(first.length, 50);
    journal.ack(50);
    add(100);
    assert.deepEqual(
      [...first, ...drain(journal)].map(({ callId }) => callId),
      ids,
    );
    assert.equal(journal.stats().segments, 1);
    await journal.close();
  });

  it("a tail torn at any byte loses nothing that was whole, and is reported", () => {
    const lines = [sampleSettled(sampleOpen()), sampleSettled(sampleOpen())].map((record) =>
      writeLine({ type: "settled", record }),
    );
    const [head, tail] = lines;
    assert.ok(head && tail);
    for (let cut = 0; cut <= tail.length; cut++) {
      const directory = freshDirectory();
      leave(directory, Buffer.concat([head, tail.subarray(0, cut)]));
      const log = new Log();
      const journal = openJournal(directory, { log });
      const whole: boolean = cut >= tail.length - 1;
      assert.equal(drain(journal).length, whole ? 2 : 1, `cut at ${cut}`);
      assert.equal(journal.stats().damaged, cut === 0 || whole ? 0 : 1, `cut at ${cut}`);
      assert.equal(log.count("error"), journal.stats().damaged);
    }
  });

  it("a flipped bit anywhere is found, reported and kept, and what follows is recovered", () => {
    const records = [sampleSettled(sampleOpen()), sampleSettled(sampleOpen()), sampleSettled(sampleOpen())];
    const good = Buffer.concat(records.map((record) => writeLine({ type: "settled", record })));
    const middle = good.indexOf(0x0a) + 1;
    const last = good.indexOf(0x0a, middle) + 1;
    for (let at = middle; at < last; at += 3) {
      const directory = freshDirectory();
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      leave(directory, bytes);
      const journal = openJournal(directory);
      const ids = drain(journal).map(({ callId }) => callId);
      assert.ok(ids.includes(records[0]?.callId ?? "") && ids.length <= 2, `flipped ${at}`);
      // A flipped newline swallows the next line too.
      if (at !== last - 1) assert.ok(ids.includes(records[2]?.callId ?? ""), `flipped ${at}`);
      assert.ok(journal.stats().damaged >= 1);
      assert.match(readFileSync(join(directory, "damaged.log"), "utf8"), /base64/);
    }
  });

  it("a line of zeros, as a crashed machine leaves, is damage and not a record", () => {
    const directory = freshDirectory();
    const path = leave(directory, writeLine({ type: "settled", record: sampleSettled(sampleOpen()) }));
    appendFileSync(path, Buffer.alloc(4_096));
    const journal = openJournal(directory);
    assert.equal(drain(journal).length, 1);
    assert.equal(journal.stats().damaged, 1);
  });

  it("a record the KeyService rejects is kept for a human", () => {
    const directory = freshDirectory();
    const journal = openJournal(directory);
    const record = sampleSettled(sampleOpen());
    journal.park(record, new Error("no"));
    const [line] = [...readLines(readFileSync(join(directory, "rejected.log")), true)];
    assert.ok(line !== undefined && "entry" in line && line.entry.type === "settled");
    assert.deepEqual(line.entry.record, record);
  });
});

const writer = join(import.meta.dirname, "journal-writer.ts");

describe("the journal of a process that is killed", () => {
  it("has everything the process said was written, 20 times at random points", async () => {
    for (let round = 0; round < 20; round++) {
      const directory = freshDirectory();
      const child = spawn(process.execPath, [writer, directory, "forever"], { stdio: ["ignore", "pipe", "inherit"] });
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      while (!said.includes("settled")) await once(child.stdout, "data");
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      child.kill("SIGKILL");
      await once(child, "close");
      const lines = said.split("\n").slice(0, -1);
      const opened = new Set(lines.filter((line) => line.startsWith("open ")).map((line) => line.slice(5)));
      const settled = new Set(lines.filter((line) => line.startsWith("settled ")).map((line) => line.slice(8)));
      assert.ok(settled.size > 0);

      const journal = openJournal(directory);
      const found = new Map(drain(journal).map((record) => [record.callId, record.status]));
      for (const id of settled) assert.equal(found.get(id), "success", "a settled attempt is lost");
      for (const id of opened) assert.ok(found.has(id), "an open attempt is lost");
      const unconfirmed = [...found.values()].filter((status) => status === "unconfirmed").length;
      assert.ok(unconfirmed <= 1, `${unconfirmed} unconfirmed of one call at a time`);
      assert.equal(journal.stats().damaged, 0);
      await journal.close();
    }
  });
});

interface Filled {
  readonly refused: readonly string[];
  readonly writtenWhileFull: boolean;
  readonly pending: number;
  readonly failures: number;
  readonly wentOn: boolean;
  readonly pendingAfter: number;
  readonly damaged: number;
}

describe("the journal on a full disk", () => {
  it("cuts off what did not fit, so that the file stays whole, and refuses to begin calls", () => {
    const directory = freshDirectory();
    // A file may grow to 64 blocks; the write that crosses the limit is done in part.
    const command = 'ulimit -f 64; exec "$0" "$1" "$2" limited';
    const child = spawnSync("sh", ["-c", command, process.execPath, writer, directory], { encoding: "utf8" });
    assert.equal(child.status, 0, child.stderr);
    const filled: Filled = JSON.parse(child.stdout);
    assert.deepEqual(filled.refused, ["journal_unavailable", "journal_unavailable"]);
    assert.equal(filled.writtenWhileFull, false);
    assert.ok(filled.failures >= 3);
    const journal = openJournal(directory);
    assert.equal(journal.stats().damaged, 0);
    const records = drain(journal);
    assert.equal(records.length, filled.pending, "as many as waited, the one that did not fit as unconfirmed");
    assert.ok(records.some(({ status }) => status === "unconfirmed"));
  });

  const namespace = spawnSync("unshare", ["-rm", "true"]).status === 0;
  it("goes on by itself when there is space again", { skip: namespace ? false : "no mount namespaces here" }, () => {
    const directory = freshDirectory();
    const command = 'mount -t tmpfs -o size=128k none "$2" && exec "$0" "$1" "$2" full';
    const child = spawnSync("unshare", ["-rm", "sh", "-c", command, process.execPath, writer, directory], {
      encoding: "utf8",
    });
    assert.equal(child.status, 0, child.stderr);
    const filled: Filled = JSON.parse(child.stdout);
    assert.deepEqual(filled.refused, ["journal_unavailable", "journal_unavailable"]);
    assert.equal(filled.writtenWhileFull, false);
    assert.equal(filled.wentOn, true);
    assert.equal(filled.damaged, 0);
    assert.equal(filled.pendingAfter, filled.pending + 1);
  });
});
