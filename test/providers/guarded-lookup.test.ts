import assert from "node:assert/strict";
import type { LookupAddress } from "node:dns";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Agent } from "undici";
import { noPrivateHosts, PrivateHosts } from "../../src/config/private-hosts.ts";
import { guard } from "../../src/providers/guarded-lookup.ts";

/** Looks a name up that leads to these addresses. */
function lookUp(hostname: string, ...addresses: readonly string[]): Promise<string> {
  return lookUpWithin(undefined, hostname, ...addresses);
}

/** The same for a name out of the database. */
function lookUpWithin(
  privateHosts: PrivateHosts | undefined,
  hostname: string,
  ...addresses: readonly string[]
): Promise<string> {
  const found = addresses.map((address): LookupAddress => ({ address, family: address.includes(":") ? 6 : 4 }));
  const lookup = guard((_, __, callback) => callback(null, found), privateHosts);
  return new Promise((resolve, reject) => {
    lookup(hostname, {}, (error, address) => (error === null ? resolve(String(address)) : reject(error)));
  });
}

test("a name that leads to where machines keep credentials is not called", async () => {
  const inNat64 = "64:ff9b::a9fe:a9fe";
  for (const address of [
    "169.254.169.254",
    "169.254.170.2",
    "fe80::1",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    inNat64,
  ]) {
    await assert.rejects(
      lookUp("models.example", address),
      /models\.example leads to a link-local or metadata address/,
    );
  }
});

test("of several addresses the others are called, and a cloud's own name for its metadata is for those who mean it", async () => {
  assert.equal(await lookUp("models.example", "169.254.169.254", "192.0.2.7"), "192.0.2.7");
  assert.equal(await lookUp("metadata.google.internal", "169.254.169.254"), "169.254.169.254");
});

test("a name out of the database is not called at a private address it leads to, unless that or the name is allowed", async () => {
  const refused =
    /models\.example leads to a private address, and tollgate\.stored_models_private_hosts does not allow it/;
  const some = new PrivateHosts(["10.1.0.0/16", "*.cluster.example"]);
  for (const address of [
    "10.2.0.1",
    "127.0.0.1",
    "192.168.0.1",
    "::1",
    "fd00::1",
    "::ffff:10.2.0.1",
    "64:ff9b::a02:1",
  ]) {
    assert.equal(await lookUp("models.example", address), address);
    await assert.rejects(lookUpWithin(noPrivateHosts, "models.example", address), refused);
    await assert.rejects(lookUpWithin(some, "models.example", address), refused);
    assert.equal(await lookUpWithin(some, "models.cluster.example.", address), address);
  }
  assert.equal(await lookUpWithin(some, "models.example", "10.1.0.1"), "10.1.0.1");
  assert.equal(await lookUpWithin(noPrivateHosts, "models.example", "10.1.0.1", "8.8.8.8"), "8.8.8.8");
  for (const name of ["metadata.google.internal", "models.cluster.example"]) {
    await assert.rejects(lookUpWithin(some, name, "169.254.169.254"), / leads to a private address/);
  }
});

test("connections are made by it, also to a name whose answer changes at the second look", async (t) => {
  const server = createServer((_, res) => res.end("hello")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const answers = ["127.0.0.1", "169.254.169.254"];
  const lookup = guard((_, __, callback) => callback(null, [{ address: answers.shift() ?? "", family: 4 }]));
  const agent = new Agent({ connect: { lookup } });
  t.after(async () => {
    await agent.destroy();
    server.close();
  });
  const ask = () => {
    const origin = `http://models.example:${(server.address() as AddressInfo).port}`;
    return agent.request({ origin, path: "/", method: "GET", reset: true });
  };
  assert.equal(await (await ask()).body.text(), "hello");
  await assert.rejects(ask(), /leads to a link-local or metadata address/);
});
