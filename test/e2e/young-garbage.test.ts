/** What a governed call leaves behind, by V8's own account: a guard that counts, on any machine and under any load. */

import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { test } from "node:test";
import { nodeFlags } from "../../deploy/runtime.ts";
import { Stack } from "./stack.ts";

const calls = 6_000;
const atOnce = 64;
/** What may be moved to the old heap of what was allocated. Spend records wait there for the KeyService; it was seen to be 2 %, and 7 to 20 % with V8 left to itself. */
const keptShareMax = 0.05;

test("what governed calls make is collected with the young, but for what they are booked by", async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce });
  const stack = await Stack.start({ sidecars: 1, nodeFlags: ["--trace-gc", ...nodeFlags] });
  try {
    const [sidecar] = stack.sidecars;
    const limits = { max_budget: 1_000, rpm_limit: 1_000_000, tpm_limit: 1_000_000_000 };
    const team = await stack.admin("POST", "/team/new", { team_alias: "young", ...limits });
    const key = await stack.generateKey({ ...limits, team_id: team.body.team_id, models: ["ok"] });
    const body = JSON.stringify({
      model: "ok",
      max_tokens: 50,
      messages: [{ role: "user", content: "word ".repeat(180) }],
    });
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const call = () =>
      new Promise<void>((resolve, reject) => {
        const outgoing = request(
          `${sidecar?.url}/v1/chat/completions`,
          { method: "POST", headers, agent },
          (answer) => {
            answer.resume().on("end", () => (answer.statusCode === 200 ? resolve() : reject(new Error("refused"))));
          },
        );
        outgoing.on("error", reject).end(body);
      });
    let left = calls;
    const one = async () => {
      while (left-- > 0) await call();
    };
    await Promise.all(Array.from({ length: atOnce }, one));
    const { keptMb, allocatedMb, scavenges } = afterWarmUp(sidecar?.process.output ?? "");
    assert.ok(scavenges >= 10, `only ${scavenges} scavenges were seen`);
    const share = keptMb / allocatedMb;
    assert.ok(share < keptShareMax, `${(share * 100).toFixed(1)} % of what was allocated was moved to the old heap`);
  } finally {
    await stack.close();
    agent.destroy();
  }
});

/** What neighbouring scavenges of the second half say. */
function afterWarmUp(output: string) {
  const lines = [...output.matchAll(/ms: (Scavenge|Mark-Compact)[^0-9]*([\d.]+) \([\d.]+\) -> ([\d.]+) /g)];
  const sum = { keptMb: 0, allocatedMb: 0, scavenges: 0 };
  for (let index = Math.ceil(lines.length / 2); index < lines.length; index++) {
    const [before, line] = [lines[index - 1], lines[index]];
    if (before?.[1] !== "Scavenge" || line?.[1] !== "Scavenge") continue;
    sum.keptMb += Number(line[3]) - Number(before[3]);
    sum.allocatedMb += Number(line[2]) - Number(before[3]);
    sum.scavenges += 1;
  }
  return sum;
}
