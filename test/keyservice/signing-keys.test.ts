import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { errors, jwtVerify } from "jose";
import { type Clock, systemClock } from "../../src/clock.ts";
import { SigningKeys } from "../../src/keyservice/signing-keys.ts";
import { TestAuthority } from "../certificates.ts";
import { audience, issuer, TestIssuer } from "../service-account-tokens.ts";

const folder = mkdtempSync(join(tmpdir(), "tollgate-keys-"));
let authority: TestAuthority;
/** A cluster's API server, as far as its keys go. */
let cluster: Server;
let published: TestIssuer[] = [];
let asked: string[] = [];
let isAway = false;

before(async () => {
  authority = new TestAuthority(folder);
  const { certFile, keyFile } = authority.issue("cluster", "DNS:localhost");
  cluster = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, async (req, res) => {
    asked.push(String(req.headers.authorization));
    if (isAway) return res.writeHead(503).end();
    res.end(JSON.stringify({ keys: await Promise.all(published.map((each) => each.jwk())) }));
  });
  cluster.listen(0, "localhost");
  await once(cluster, "listening");
  writeFileSync(join(folder, "token"), "token of the KeyService\n");
});
after(() => {
  cluster.close();
  rmSync(folder, { recursive: true, force: true });
});

function keysOf(caFile = authority.file) {
  let nowMs = 1_000_000;
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
  const failures: string[] = [];
  const rules = {
    ...{ issuer, audience, bound_to_pod: true, jwks_ca_file: caFile, jwks_token_file: join(folder, "token") },
    jwks_url: `https://localhost:${(cluster.address() as AddressInfo).port}/openid/v1/jwks`,
  };
  const keys = new SigningKeys({ rules, clock, onError: ({ message }) => failures.push(message) });
  const verify = async (of: TestIssuer) => jwtVerify(await of.token(), keys.find, { issuer, audience });
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { verify, failures, pass };
}

test("the cluster's keys are asked for once, with our token, and a new one when a token names it", async () => {
  const [first, second, forger] = await Promise.all(["a", "b", "c"].map((kid) => TestIssuer.open(kid)));
  assert.ok(first && second && forger);
  published = [first];
  asked = [];
  const { verify, pass } = keysOf();
  await Promise.all([verify(first), verify(first), verify(first)]);
  await verify(first);
  assert.deepEqual(asked, ["Bearer token of the KeyService"]);
  published = [first, second];
  // A flood of tokens with made-up key ids asks nobody.
  await assert.rejects(verify(forger), errors.JWKSNoMatchingKey);
  assert.equal(asked.length, 1);
  pass(31_000);
  await verify(second);
  assert.equal(asked.length, 2);
});

test("keys that were withdrawn are not believed for long, and those we have do while the cluster is away", async () => {
  const [first, second] = await Promise.all(["a", "b"].map((kid) => TestIssuer.open(kid)));
  assert.ok(first && second);
  published = [first];
  const { verify, pass, failures } = keysOf();
  await verify(first);
  isAway = true;
  pass(601_000);
  await verify(first);
  await new Promise((resolve) => setTimeout(resolve, 200));
  await verify(first);
  assert.match(failures.join(), /\/openid\/v1\/jwks answered 503/);
  isAway = false;
  published = [second];
  pass(601_000);
  await verify(first);
  await new Promise((resolve) => setTimeout(resolve, 200));
  await assert.rejects(verify(first), errors.JWKSNoMatchingKey);
  await verify(second);
});

test("a cluster whose certificate is not of the authority named has no say, and no token is taken", async () => {
  const issuerOfNobody = await TestIssuer.open("a");
  published = [issuerOfNobody];
  const { verify, failures } = keysOf(new TestAuthority(folder, "strangers").file);
  await assert.rejects(verify(issuerOfNobody), /signing keys are not known yet/);
  assert.ok(failures.length > 0);
});
