import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { KeyAdminService } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { accountOf, usd } from "./audit.ts";
import { chargeOf } from "./bills.ts";
import { FaultProxy } from "./proxy.ts";
import { onlyStatuses, type Row, type Scene, seconds } from "./row.ts";
import { call } from "./traffic.ts";
import { eventually, masterKey, type Pod, pause, ready } from "./world.ts";

const stranger = { name: "stranger", secret: "sk-nobody-has-this-key" };

export const keyServiceRows: readonly Row[] = [
  {
    name: "6",
    fault: "KeyService killed (kill -9)",
    promise:
      "known keys are served from what their pod has borrowed, then 503; never 401; usage waits in the journal and is booked once",
    isQuick: true,
    run: async (scene) => {
      const { world } = scene;
      let strangerStatus = 0;
      const incident = await scene.incident({
        inject: async () => {
          await world.keyService.kill("SIGKILL");
          strangerStatus = (await call(world.pod(0), stranger)).status;
        },
        heal: async () => {
          world.keyService.restart();
          await world.keyServiceReady();
        },
      });
      const { outcomes, during, keys } = incident;
      onlyStatuses(outcomes, 200, 429, 503);
      assert.equal(strangerStatus, 503, "an outage is no answer about a key");
      onlyStatuses(ofKey(during, keys.unlimited.name), 200);
      const loose = ofKey(during, keys.loose.name);
      const served = loose.filter(({ status }) => status === 200).length;
      assert.ok(served > 0, "the loose key was not served from its lease");
      return [...incident.facts, `loose key during the outage: ${served} of ${loose.length} served; unknown key: 503`];
    },
  },
  {
    name: "7",
    fault: "KeyService away when a pod starts",
    promise: "the pod lives and is not ready; every key gets 503, not 401; ready without a restart",
    isQuick: true,
    run: async ({ world }) => {
      await world.keyService.kill("SIGKILL");
      const pod = await world.addPod();
      await eventually("the new pod lives", async () => (await fetch(`${pod.adminUrl}/livez`)).ok);
      assert.equal((await fetch(`${pod.adminUrl}/readyz`)).status, 503);
      const refused = await call(pod, stranger);
      assert.deepEqual([refused.status, refused.code], [503, "keyservice_unavailable"]);
      assert.ok(Number(refused.headers?.get("retry-after-ms") ?? 0) > 0);
      world.keyService.restart();
      await world.keyServiceReady();
      const startMs = performance.now();
      await ready(pod);
      const readyMs = performance.now() - startMs;
      assert.equal((await call(pod, stranger)).status, 401);
      return [`503 while away, 401 afterwards; ready ${seconds(readyMs)} after the KeyService was`];
    },
  },
  {
    name: "8",
    fault: "KeyService answers 3 s late",
    promise:
      "known keys notice nothing; an unknown one gets 503 with retry-after by its deadline of 2 s; one question a key",
    run: async (scene) => {
      const { world } = scene;
      const facts: string[] = [];
      const lateMs = 3_000;
      // Not one of those with traffic: what it asks the KeyService for is counted.
      const incident = await scene.incident({
        inject: async () => {
          const idle = await world.addPod();
          await ready(idle);
          for (const pod of world.pods) pod.toKeyService.latencyMs = lateMs;
          facts.push(...(await askAboutNewKeys(scene, idle)));
        },
        heal: async () => {
          for (const pod of world.pods) pod.toKeyService.latencyMs = 0;
          // What is asked meanwhile waits behind what was on its way already.
          await pause(lateMs);
        },
      });
      onlyStatuses(ofKey(incident.outcomes, incident.keys.unlimited.name), 200);
      onlyStatuses(incident.outcomes, 200, 429, 503);
      return [...incident.facts, ...facts];
    },
  },
  {
    name: "9",
    fault: "replies of the KeyService cut off at random bytes, after the work is done",
    promise: "everything is repeated under its id: leases, settlements and CreateKey act once",
    run: async (scene) => {
      const { world } = scene;
      const incident = await scene.incident({
        inject: () => {
          for (const { toKeyService } of world.pods) {
            toKeyService.cutAfterBytes = () => Math.floor(Math.random() * 600);
            toKeyService.reset();
          }
        },
        heal: () => {
          for (const { toKeyService } of world.pods) toKeyService.cutAfterBytes = () => undefined;
        },
      });
      onlyStatuses(incident.outcomes, 200, 429, 503);
      const cuts = world.pods.reduce((total, { toKeyService }) => total + toKeyService.connections.total, 0);
      assert.ok(cuts > 3 * world.pods.length, "hardly a connection was cut");
      return [...incident.facts, `${cuts} connections cut`, await createThroughCuts(scene)];
    },
  },
  {
    name: "10",
    fault: "one of three pods cut off from the KeyService (blackholed) for longer than its leases (6 s)",
    promise: "the others notice nothing; the lost lease is charged as unconfirmed, and corrected when the pod is back",
    world: { leaseTtlS: 6 },
    run: async (scene) => {
      const { world } = scene;
      let charged = 0n;
      const incident = await scene.incident({
        inject: () => {
          world.pod(0).toKeyService.mode = "blackhole";
        },
        heal: async (keys) => {
          const sql =
            "SELECT coalesce(sum(cost_nanos), 0)::bigint AS cost FROM spend_log WHERE attempt = 0 AND key_id = $1";
          for (const { keyId } of Object.values(keys)) {
            const [row] = await world.query<{ cost: bigint }>(sql, [keyId]);
            charged += row?.cost ?? 0n;
          }
          world.pod(0).toKeyService.mode = "pass";
        },
      });
      onlyStatuses(incident.outcomes, 200, 429, 503);
      onlyStatuses(
        incident.outcomes.filter(({ pod }) => pod > 0),
        200,
        429,
      );
      assert.ok(charged > 0n || scene.seconds < 20, "no lease ran out");
      return [...incident.facts, `charged as unconfirmed meanwhile ${usd(charged)}, all of it corrected`];
    },
  },
  {
    name: "11",
    fault: "a key is blocked while one of three pods is cut off",
    promise:
      "refused by the others within 1 s; by the lost pod when its lease ends (6 s) or its knowledge is stale (8 s, configured); spend after the block is what was lent",
    world: { leaseTtlS: 6, sidecarEnv: () => ({ TOLLGATE_KEY_STALE_S: "8" }) },
    run: async (scene) => {
      const { world } = scene;
      let blockedAtMs = 0;
      let billedAtBlock = 0n;
      const billed = (name: string) => world.bills.of(name).reduce((total, bill) => total + chargeOf(bill), 0n);
      const incident = await scene.incident({
        inject: async (keys) => {
          world.pod(0).toKeyService.mode = "blackhole";
          await pause(500);
          for (const { secret } of [keys.loose, keys.unlimited]) {
            assert.equal((await world.admin("/key/block", { key: secret })).status, 200);
          }
          blockedAtMs = performance.now();
          billedAtBlock = billed(keys.loose.name);
        },
        heal: () => {
          world.pod(0).toKeyService.mode = "pass";
        },
        mayBeRefused: ["loose", "unlimited"],
      });
      const { keys, outcomes } = incident;
      const lastServedMs = (name: string, isLost: boolean) => {
        const served = outcomes.filter(
          (o) => o.key === name && o.status === 200 && o.atMs > blockedAtMs && (o.pod === 0) === isLost,
        );
        return Math.max(0, ...served.map(({ atMs }) => atMs - blockedAtMs));
      };
      for (const { name } of [keys.loose, keys.unlimited]) {
        assert.ok(lastServedMs(name, false) < 1000, `served by a connected pod ${lastServedMs(name, false)} ms later`);
      }
      const [lostLoose, lostUnlimited] = [lastServedMs(keys.loose.name, true), lastServedMs(keys.unlimited.name, true)];
      assert.ok(lostLoose <= 6000, `the loose key was served by the lost pod ${lostLoose} ms later`);
      assert.ok(lostUnlimited <= 8500, `the unlimited key was served by the lost pod ${lostUnlimited} ms later`);
      const after = billed(keys.loose.name) - billedAtBlock;
      return [
        ...incident.facts,
        `last served after the block: connected pods ${lastServedMs(keys.loose.name, false).toFixed(0)} ms, lost pod ${seconds(lostLoose)} (with budget), ${seconds(lostUnlimited)} (without)`,
        `spent on the loose key after the block ${usd(after)}`,
      ];
    },
  },
];

function ofKey<Item extends { readonly key: string }>(outcomes: readonly Item[], name: string): Item[] {
  return outcomes.filter(({ key }) => key === name);
}

/** What callers with keys no pod has seen yet get while the KeyService is slow, and how often it is asked for them. */
async function askAboutNewKeys(scene: Scene, pod: Pod): Promise<string[]> {
  const bytesFor = async (callers: number) => {
    const key = await scene.key(`new-${callers}`);
    const [bytesBefore, startMs] = [pod.toKeyService.bytesUp, performance.now()];
    const answers = await Promise.all(Array.from({ length: callers }, () => call(pod, key)));
    const tookMs = performance.now() - startMs;
    for (const { status, headers, code } of answers) {
      assert.equal(status, 503, code);
      assert.ok(headers?.get("retry-after"), "no retry-after");
    }
    assert.ok(tookMs < 3000, `answered after ${tookMs} ms`);
    await pause(3200);
    return { bytes: pod.toKeyService.bytesUp - bytesBefore, tookMs };
  };
  const [one, many] = [await bytesFor(1), await bytesFor(100)];
  assert.ok(many.bytes < one.bytes + 100 * 50, `${one.bytes} bytes for one caller, ${many.bytes} for a hundred`);
  return [
    `new key: 503 after ${seconds(one.tookMs)}; a hundred callers of one new key cost ${many.bytes} bytes to the KeyService, one ${one.bytes}`,
  ];
}

/** Makes a key whose answer is lost again and again, always under one id. */
async function createThroughCuts({ world }: Scene): Promise<string> {
  const proxy = await FaultProxy.start(Number(new URL(world.keyServiceUrl).port));
  const requestId = randomUUID();
  const alias = `once-${requestId}`;
  let lost = 0;
  try {
    for (let attempt = 0; attempt < 6; attempt++) {
      // HTTP/2's first frames come before the answer: the cut moves through both.
      proxy.cutAfterBytes = () => (attempt < 5 ? 20 + attempt * 30 : undefined);
      const admin = createClient(KeyAdminService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${proxy.port}` }));
      try {
        await admin.createKey(
          { requestId, key: { alias, maxBudgetUsd: "1" } },
          { headers: { authorization: `Bearer ${masterKey}` }, timeoutMs: 5_000 },
        );
      } catch {
        lost++;
      }
    }
  } finally {
    await proxy.close();
  }
  const keys = await world.query<{ key_id: string }>("SELECT key_id FROM keys WHERE alias = $1", [alias]);
  assert.equal(keys.length, 1);
  assert.ok(lost > 0, "no answer was lost");
  assert.equal((await accountOf(world, keys[0]?.key_id ?? "")).max, 1_000_000_000n);
  return `CreateKey with ${lost} of 6 answers lost made 1 key`;
}
