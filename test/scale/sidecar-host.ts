/** A process with many sidecars, each with a connection of its own. Told what to do by `sidecars.ts`, and tells what came of it. */

import { randomUUIDv7 } from "node:crypto";
import { join } from "node:path";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { RemoteAuthority } from "../../src/keys/remote.ts";
import { Secret } from "../../src/secret.ts";
import { CountingAuthority, type RpcFigures, type RpcName, rpcNames } from "./counting-authority.ts";
import { PacedSidecar } from "./paced-sidecar.ts";

/** What the process is asked. */
export type Order =
  | {
      readonly type: "start";
      readonly url: string;
      readonly runtimeToken: string;
      readonly directory: string;
      /** One each, in order; their places among all sidecars begin at `first`. */
      readonly tokens: readonly string[];
      readonly first: number;
      readonly callsPerSecond: number;
    }
  /** What was asked of the KeyService since the last time. */
  | { readonly type: "figures" }
  /** Waits until every sidecar has heard of the change to this key. */
  | { readonly type: "heard"; readonly keyId: string }
  | { readonly type: "stop" };

/** Answers, in the order of what was asked. Money as text: messages have no bigints. */
export type Report =
  | { readonly type: "started" }
  | { readonly type: "figures"; readonly rpcs: Record<RpcName, RpcFigures> }
  | { readonly type: "heard"; readonly atMs: readonly number[] }
  | {
      readonly type: "stopped";
      readonly settled: number;
      readonly cost: string;
      readonly refused: number;
      readonly failed: number;
    };

/** Sidecars connect one after the other, as pods of a rollout do. In milliseconds. */
const startGapMs = 2;

const sidecars: PacedSidecar[] = [];
const authorities: CountingAuthority[] = [];
/** By key, by sidecar: when its last change was heard. */
const heard = new Map<string, Map<number, number>>();

async function start(order: Extract<Order, { type: "start" }>): Promise<void> {
  for (const [index, token] of order.tokens.entries()) {
    const place = order.first + index;
    const shared = { clock: systemClock, random: systemRandom };
    const inner = new RemoteAuthority({
      ...{ url: order.url, token: new Secret(order.runtimeToken), podId: `pod-${place}` },
      ...shared,
    });
    const authority = new CountingAuthority({
      ...{ inner, clock: systemClock },
      onChange: (change) => {
        if (change.type !== "key") return;
        const atMs = heard.get(change.keyId) ?? new Map<number, number>();
        heard.set(change.keyId, atMs.set(place, Date.now()));
      },
    });
    const journalDirectory = join(order.directory, `pod-${place}`);
    const sidecar = new PacedSidecar({ ...shared, authority, newId: randomUUIDv7, journalDirectory, tokens: [token] });
    authorities.push(authority);
    sidecars.push(sidecar);
    await wait(startGapMs);
  }
  await until(() => sidecars.every(({ ready }) => ready));
  for (const sidecar of sidecars.slice(-order.tokens.length)) sidecar.pace(order.callsPerSecond);
}

function takeFigures(): Record<RpcName, RpcFigures> {
  const all = authorities.map((authority) => authority.takeFigures());
  return Object.fromEntries(
    rpcNames.map((name) => [
      name,
      {
        tookMs: all.flatMap((figures) => figures[name].tookMs),
        failures: all.reduce((sum, figures) => sum + figures[name].failures, 0),
      },
    ]),
  ) as Record<RpcName, RpcFigures>;
}

async function carryOut(order: Order): Promise<Report> {
  if (order.type === "start") {
    await start(order);
    return { type: "started" };
  }
  if (order.type === "figures") return { type: "figures", rpcs: takeFigures() };
  if (order.type === "heard") {
    await until(() => heard.get(order.keyId)?.size === sidecars.length);
    return { type: "heard", atMs: [...(heard.get(order.keyId)?.values() ?? [])] };
  }
  await Promise.all(sidecars.map((sidecar) => sidecar.stop()));
  const sum = { settled: 0, cost: 0n, refused: 0, failed: 0 };
  for (const { figures } of sidecars) {
    sum.settled += figures.settled;
    sum.cost += figures.cost;
    sum.refused += figures.refused;
    sum.failed += figures.failed;
  }
  return { type: "stopped", ...sum, cost: String(sum.cost) };
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await wait(20);
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

process.on("disconnect", () => process.exit());
process.on("message", (order: Order) => {
  carryOut(order).then(
    (report) => process.send?.(report),
    (error) => {
      process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
      process.exit(1);
    },
  );
});
