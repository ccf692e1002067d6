/** A sidecar of several processes: one port, limits and budgets that hold over all, one place for health and metrics. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Stack } from "./stack.ts";

let stack: Stack;
before(async () => {
  stack = await Stack.start({ sidecars: 1, config: "tollgate: { workers: 2 }" });
});
after(() => stack.close());

const url = () => stack.sidecars[0]?.url ?? "";
const adminUrl = () => stack.sidecars[0]?.adminUrl ?? "";

/** A call on a connection of its own, which any worker may take. */
function call(key: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const agent = new Agent();
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const asked = request(`${url()}/v1/chat/completions`, { method: "POST", headers, agent }, (answer) => {
      answer.resume().on("end", () => resolve(answer.statusCode ?? 0));
    });
    const body = { model: "ok", max_tokens: 20, messages: [{ role: "user", content: "Hello" }] };
    asked.on("error", reject).end(JSON.stringify(body));
  });
}

const callAtOnce = (key: string, count: number) => Promise.all(Array.from({ length: count }, () => call(key)));

async function metrics(): Promise<string> {
  return (await fetch(`${adminUrl()}/metrics`)).text();
}

/** Answered calls by the worker that answered them. */
async function answered(): Promise<Map<string, number>> {
  const calls = new Map<string, number>();
  for (const [, worker = "", labels = "", count] of (await metrics()).matchAll(
    /^tollgate_requests_total\{worker="(\d)",(.*)\} (\d+)$/gm,
  ))
    if (labels.includes('code="ok"')) calls.set(worker, (calls.get(worker) ?? 0) + Number(count));
  return calls;
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    if (await isSo()) return;
    await sleep(100);
  }
  assert.fail(what);
}

test("calls go to all workers, and a limit and a budget hold over them exactly", async () => {
  const limited = await stack.generateKey({ rpm_limit: 10 });
  const statuses = await callAtOnce(limited, 40);
  assert.equal(statuses.filter((status) => status === 200).length, 10);
  assert.equal(statuses.filter((status) => status === 429).length, 30);

  const free = await stack.generateKey({});
  assert.ok((await callAtOnce(free, 40)).every((status) => status === 200));
  const calls = await answered();
  assert.deepEqual([...calls.keys()].sort(), ["0", "1"], `${[...calls]}`);
  assert.equal(
    [...calls.values()].reduce((sum, count) => sum + count, 0),
    50,
  );

  const poor = await stack.generateKey({ max_budget: 0.0005 });
  const paid = (await callAtOnce(poor, 60)).filter((status) => status === 200).length;
  assert.ok(paid > 0 && paid < 60, `${paid} of 60 were let through`);
  const rows = await stack.booked(poor, paid);
  assert.equal(rows.length, paid);
  const spent = rows.reduce((sum, { cost_nanos: cost }) => sum + Number(cost), 0);
  assert.ok(spent <= 500_000, `${spent} nano-dollars were spent of 500,000`);
});

test("a worker that is killed is started again; meanwhile the other takes the calls, and what the first had begun is booked", async () => {
  const pid = stack.sidecars[0]?.process.pid ?? 0;
  const key = await stack.generateKey({ max_budget: 1 });
  await callAtOnce(key, 10);
  const [first = 0] = childrenOf(pid);
  process.kill(first, "SIGKILL");
  await until("the killed worker is still there", async () => !childrenOf(pid).includes(first));
  assert.equal((await fetch(`${adminUrl()}/readyz`)).status, 200);
  assert.equal(await call(key), 200);
  await until("no other worker came", async () => (await fetch(`${adminUrl()}/startupz`)).status === 200);
  assert.equal(childrenOf(pid).length, 2);
  assert.ok((await callAtOnce(key, 10)).every((status) => status === 200));
  assert.equal((await stack.booked(key, 21)).length, 21);
});

test("health tells of each worker", async () => {
  const text = await (await fetch(`${adminUrl()}/readyz?verbose`)).text();
  assert.match(text, /^worker 0: /m);
  assert.match(text, /^worker 1: /m);
});

test("when the first process is killed no worker stays behind, and what they had begun is booked after the next start", async () => {
  const sidecar = stack.sidecars[0];
  const children = childrenOf(sidecar?.process.pid ?? 0);
  const key = await stack.generateKey({ max_budget: 1 });
  await callAtOnce(key, 10);
  await sidecar?.process.kill("SIGKILL");
  const isThere = (pid: number) => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  await until("a worker stayed behind", async () => !children.some(isThere));
  sidecar?.process.restart();
  await sidecar?.ready();
  assert.equal((await stack.booked(key, 10)).length, 10);
});

test("told to end, it lets calls finish, and no worker is left", async () => {
  const sidecar = stack.sidecars[0];
  const children = childrenOf(sidecar?.process.pid ?? 0);
  const key = await stack.generateKey({});
  const calls = callAtOnce(key, 10);
  await calls;
  assert.equal(await sidecar?.process.kill("SIGTERM"), 0);
  for (const child of children) assert.throws(() => process.kill(child, 0), { code: "ESRCH" });
  assert.equal((await stack.booked(key, 10)).length, 10);
  sidecar?.process.restart();
  await sidecar?.ready();
});
