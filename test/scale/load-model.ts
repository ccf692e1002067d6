/** What sidecars ask of the KeyService, from their own code in virtual time, and what that comes to over many of them. */

import { hash } from "node:crypto";
import { PaperAuthority } from "../keys/paper-authority.ts";
import { sampleGrant } from "../keys/samples.ts";
import { Disk } from "../sim/disk.ts";
import { ProcessClock, World } from "../sim/world.ts";
import { CountingAuthority, type RpcName, rpcNames } from "./counting-authority.ts";
import { PacedSidecar } from "./paced-sidecar.ts";

/** Not counted: in it the sidecar learns the key and how much it needs. In milliseconds. */
const warmUpMs = 30_000;
const heartbeatMs = 5_000;

/** RPCs a second of one sidecar. */
export type RpcRates = Readonly<Record<RpcName, number>>;

/** How often one sidecar asks when one key is used so often a second through it, counted for `seconds`. The same every time. */
export async function ratesOf(callsPerSecond: number, seconds: number): Promise<RpcRates> {
  const world = new World(1);
  const clock = new ProcessClock(world, { what: "sidecar", offsetMs: 0, rate: 1 });
  const paper = new PaperAuthority({ clock });
  const token = "sk-scale";
  paper.grants.set(hash("sha256", token), sampleGrant("key_1", 10n ** 15n));
  paper.budgets.set("key_1", { max: 10n ** 15n, spent: 0n, reserved: 0n });
  const beat = () => {
    paper.push({ type: "heartbeat", version: paper.version });
    clock.after(heartbeatMs, beat);
  };
  beat();
  const authority = new CountingAuthority({ inner: paper, clock });
  const { random, newId } = world.dice;
  const [host, journalDirectory] = [new Disk(world).mount(), "journal"];
  const sidecar = new PacedSidecar({ authority, clock, random, newId, host, journalDirectory, tokens: [token] });
  sidecar.pace(callsPerSecond);
  await world.runUntil(warmUpMs, () => false);
  authority.takeFigures();
  await world.runUntil(warmUpMs + seconds * 1_000, () => false);
  const figures = authority.takeFigures();
  return Object.fromEntries(rpcNames.map((name) => [name, figures[name].tookMs.length / seconds])) as RpcRates;
}
