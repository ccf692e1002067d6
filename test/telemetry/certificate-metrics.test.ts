import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import { certificateMetrics } from "../../src/telemetry/certificate-metrics.ts";
import type { MetricFamily } from "../../src/telemetry/metric-family.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { tlsMaterial } from "../../src/tls-files.ts";
import { TestAuthority } from "../certificates.ts";

const folder = mkdtempSync(join(tmpdir(), "tollgate-certificates-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const dayS = 86_400;
const authority = new TestAuthority(folder);
const own = authority.issue("own", "DNS:localhost", 30);

const daysUntil = (unixS: number) => Math.round((unixS - Date.now() / 1000) / dayS);

/** Days from now, by the label and whether it is the beginning or the end. */
async function told(families: readonly MetricFamily[]): Promise<Record<string, number>> {
  const metrics = new Metrics();
  metrics.add(...families);
  const { text } = await metrics.expose();
  const lines = text.matchAll(/^tollgate_certificate_(\w+)_timestamp_seconds\{use="(\w+)"\} (\d+)$/gm);
  // A little less than nothing is nothing.
  return Object.fromEntries([...lines].map(([, what, use, end]) => [`${use} ${what}`, daysUntil(Number(end)) || 0]));
}

test("a chain ends with the first of it, authorities with the last of them, and what is renewed is told anew", async () => {
  let nowMs = 0;
  const clock = { ...systemClock, monotonicMs: () => nowMs };
  const onError = ({ message }: Error) => assert.fail(message);
  const short = new TestAuthority(folder, "short");
  const chain = join(folder, "chain.crt");
  const long = readFileSync(own.certFile);
  // The authority's own lives for two days.
  writeFileSync(chain, Buffer.concat([long, readFileSync(short.file)]));
  const both = join(folder, "both.crt");
  writeFileSync(both, Buffer.concat([long, readFileSync(authority.file)]));
  const ports = tlsMaterial({ certFile: chain, keyFile: own.keyFile, caFile: both }, { clock, onError });
  const keyservice = tlsMaterial(
    { certFile: undefined, keyFile: undefined, caFile: authority.file },
    { clock, onError },
  );
  const families = certificateMetrics({ ports, keyservice, nothing: undefined });
  assert.deepEqual(await told(families), {
    ...{ "ports expiry": 2, "ports_ca expiry": 30, "keyservice_ca expiry": 2 },
    ...{ "ports start": 0, "ports_ca start": 0, "keyservice_ca start": 0 },
  });
  writeFileSync(chain, long);
  nowMs = 60_000;
  assert.equal((await told(families))["ports expiry"], 30);
});
