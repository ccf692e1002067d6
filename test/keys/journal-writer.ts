/** Writes a journal: until it is killed ("forever"), or until the disk is full and free again ("full"). For journal.test.ts. */
import { randomUUID } from "node:crypto";
import { unlinkSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/clock.ts";
import { GatewayError } from "../../src/errors.ts";
import { Journal, journalDefaults } from "../../src/keys/journal.ts";
import type { OpenAttempt } from "../../src/keys/journal-line.ts";
import { Log, sampleOpen, sampleSettled } from "./samples.ts";

const [, , directory = "", mode] = process.argv;
const parts = { ...journalDefaults, clock: systemClock, telemetry: new Log(), newId: randomUUID };

if (mode === "forever") writeForever();
else await fillUp(mode === "full");

function writeForever(): never {
  const journal = new Journal({ ...parts, directory, segmentBytes: 20_000 });
  for (;;) {
    const open = sampleOpen();
    const begun = journal.appendOpen(open);
    writeSync(1, `open ${open.callId}\n`);
    journal.appendSettled(sampleSettled(open), begun);
    writeSync(1, `settled ${open.callId}\n`);
  }
}

/** Writes until nothing more fits; then, if there is a ballast to throw off, goes on. */
async function fillUp(ballasted: boolean): Promise<void> {
  // Without a listener the signal that comes with a file too large would end the process; with one the write fails.
  process.on("SIGXFSZ", () => {});
  const ballast = join(directory, "ballast");
  if (ballasted) writeFileSync(ballast, Buffer.alloc(32_768));
  const journal = new Journal({ ...parts, directory });
  let open = sampleOpen();
  let begun: OpenAttempt | undefined;
  let settled = 0;
  const refusal = () => {
    try {
      for (;;) {
        const next = sampleOpen();
        const nextBegun = journal.appendOpen(next);
        if (settled > 0) journal.appendSettled(sampleSettled(open), begun);
        settled++;
        [open, begun] = [next, nextBegun];
      }
    } catch (error) {
      return error instanceof GatewayError ? error.code : String(error);
    }
  };
  const refused = [refusal(), refusal()];
  const writtenWhileFull = journal.appendSettled(sampleSettled(open, { providerResponseId: "x".repeat(5_000) }), begun);
  const { pending, failures } = journal.stats();
  let wentOn = false;
  let recovered = { pending: 0, damaged: 0 };
  if (ballasted) {
    unlinkSync(ballast);
    const next = sampleOpen();
    wentOn = journal.appendSettled(sampleSettled(next), journal.appendOpen(next));
    await journal.close();
    recovered = new Journal({ ...parts, directory }).stats();
  }
  const { pending: pendingAfter, damaged } = recovered;
  writeSync(1, JSON.stringify({ refused, writtenWhileFull, pending, failures, wentOn, pendingAfter, damaged }));
  process.exit(0);
}
