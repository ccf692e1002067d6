import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { UnsecuredJWT } from "jose";
import { systemClock, systemRandom } from "../../src/clock.ts";
import { KeyAdminService } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import { KeyService, SpendStatus } from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import { RemoteAuthority } from "../../src/keys/remote.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { Closers } from "../../src/lifecycle.ts";
import { Secret } from "../../src/secret.ts";
import { errorInfo } from "../../src/server/rpc-error.ts";
import { http2Connector, type TlsFiles, tlsMaterial } from "../../src/tls-files.ts";
import { TestAuthority } from "../certificates.ts";
import { freePort } from "../free-port.ts";
import { testDatabaseUrl } from "../postgres.ts";
import { audience, issuer, TestIssuer, type TokenFacts, writeKeySet } from "../service-account-tokens.ts";
import { Process } from "./stack.ts";

const masterKey = "sk-master-key-of-the-tests";
const sharedToken = "token that all sidecars share";

const folder = mkdtempSync(join(tmpdir(), "tollgate-identity-"));
const file = (name: string) => join(folder, name);
const closers = new Closers();
let authority: TestAuthority;
let strangers: TestAuthority;
let cluster: TestIssuer;
let keyService: Process;
let url: string;
let adminUrl: string;
/** Of team `search`, of team `billing`, of none. */
let keys: { search: string; billing: string; none: string };

before(async () => {
  closers.add("folder", () => rmSync(folder, { recursive: true, force: true }));
  authority = new TestAuthority(folder);
  strangers = new TestAuthority(folder, "strangers");
  cluster = await TestIssuer.open("first");
  await writeKeySet(file("jwks.json"), [cluster]);
  const own = authority.issue("keyservice", "DNS:localhost,IP:127.0.0.1");
  writeFileSync(
    file("identities.yaml"),
    `service_account_tokens: {issuer: "${issuer}", audience: ${audience}, jwks_file: ${file("jwks.json")}}
client_certificates: {trust_domain: cluster.local}
sidecars:
  - {namespace: search, service_account: gateway, teams: [search]}
  - {namespace: platform, teams: ["*"]}
`,
  );
  const database = await testDatabaseUrl();
  closers.add("database", () => database.drop());
  const [port, adminPort] = [await freePort(), await freePort()];
  url = `https://localhost:${port}`;
  adminUrl = `https://localhost:${adminPort}`;
  keyService = new Process(["keyservice"], {
    ...{ DATABASE_URL: database.url, LITELLM_MASTER_KEY: masterKey, LITELLM_SALT_KEY: "pepper-of-the-tests" },
    ...{ TOLLGATE_KEYSERVICE_TOKEN: sharedToken, TOLLGATE_SIDECAR_IDENTITIES: file("identities.yaml") },
    ...{ TOLLGATE_KEYSERVICE_PORT: String(port), TOLLGATE_KEYSERVICE_ADMIN_PORT: String(adminPort) },
    ...{ TOLLGATE_TLS_CERT_FILE: own.certFile, TOLLGATE_TLS_KEY_FILE: own.keyFile },
    TOLLGATE_TLS_CLIENT_CA_FILE: authority.file,
  });
  closers.add("keyservice", async () => void (await keyService.kill("SIGKILL")));
  await ready();
  await admin("POST", "/team/new", { team_id: "search" });
  await admin("POST", "/team/new", { team_id: "billing", max_budget: 5 });
  const made = await Promise.all(
    [{ team_id: "search", max_budget: 5 }, { team_id: "billing", max_budget: 5 }, {}].map((fields) =>
      admin("POST", "/key/generate", fields),
    ),
  );
  const [search = "", billing = "", none = ""] = made.map(({ body }) => String(body.key));
  keys = { search, billing, none };
});
after(() =>
  closers.close((name, error) => {
    throw new Error(`could not close ${name}`, { cause: error });
  }),
);

async function ready(): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    const answer = await ask("GET", `${adminUrl}/health/readiness`).catch(() => undefined);
    if (answer?.status === 200) return;
    await sleep(100);
  }
  assert.fail(`the KeyService did not become ready:\n${keyService.output}`);
}

function ask(
  method: string,
  address: string,
  body?: object,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const headers = { authorization: `Bearer ${masterKey}`, "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const ca = tlsMaterial({ certFile: undefined, keyFile: undefined, caFile: authority.file }, watching).current.ca;
    const request = httpsRequest(address, { method, headers, ca }, (answer) => {
      let text = "";
      answer.on("data", (piece) => {
        text += piece;
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: JSON.parse(text) }));
    });
    request.on("error", reject);
    request.end(body && JSON.stringify(body));
  });
}

const admin = (method: string, path: string, body?: object) => ask(method, adminUrl + path, body);
const watching = { clock: systemClock, onError: () => {} };

/** What a sidecar shows. */
interface Credentials {
  readonly token?: string;
  readonly tls?: TlsFiles;
}

const nothingShown = (): TlsFiles => ({ certFile: undefined, keyFile: undefined, caFile: authority.file });

/** Works with a client that shows these credentials. */
async function as<Result>(
  { token, tls = nothingShown() }: Credentials,
  work: (client: ReturnType<typeof clientOf>) => Promise<Result>,
  address = url,
): Promise<Result> {
  const connection = { createConnection: http2Connector(tlsMaterial({ ...tls, caFile: authority.file }, watching)) };
  const sessionManager = new Http2SessionManager(address, undefined, connection);
  try {
    return await work(clientOf(sessionManager, address, token));
  } finally {
    sessionManager.abort();
  }
}

function clientOf(sessionManager: Http2SessionManager, baseUrl: string, token: string | undefined) {
  const transport = createGrpcTransport({
    ...{ baseUrl, sessionManager, defaultTimeoutMs: 10_000 },
    interceptors: [
      (next) => (request) => {
        if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  return { runtime: createClient(KeyService, transport), admin: createClient(KeyAdminService, transport) };
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(() => assert.fail("it was not refused"), ConnectError.from);
  return `${errorInfo(error)?.reason ?? Code[error.code]}: ${error.rawMessage}`;
}

const resolveSearch = (credentials: Credentials) =>
  as(credentials, ({ runtime }) => runtime.resolveKey({ keySha256: digestSecret(keys.search) }));

const leaseOf = (keyId: string, podId: string, budgetIds: string[] = []) => ({
  ...{ requestId: randomUUID(), leaseId: randomUUID(), podId, keyId, budgetIds },
  ...{ minNanos: 1n, wantNanos: 1_000n },
});

const recordOf = (keyId: string) => ({
  ...{ callId: randomUUID(), attempt: 1, keyId, costNanos: 5n, model: "m", status: SpendStatus.SUCCESS },
  ...{ startTime: timestampNow(), endTime: timestampNow() },
});

describe("a service account's token", () => {
  test("is taken for what it says, and lends its pod money", async () => {
    const token = await cluster.token();
    await as({ token }, async ({ runtime }) => {
      const { grant } = await runtime.resolveKey({ keySha256: digestSecret(keys.search) });
      assert.equal(grant?.teamId, "search");
      for (const podId of ["search-0", "search/search-0", "uid-of-search-0"]) {
        const answer = await runtime.acquireLease(leaseOf(grant?.keyId ?? "", podId));
        assert.equal(answer.outcome.case, "lease");
      }
    });
  });

  const wrong: readonly (readonly [string, TokenFacts, RegExp])[] = [
    ["for another audience", { audience: "vault" }, /^INVALID_API_KEY: The token is for another audience/],
    ["that has expired", { expiresInS: -30 }, /^INVALID_API_KEY: The token has expired/],
    ["of another issuer", { issuer: "https://elsewhere" }, /^INVALID_API_KEY: The token is of another issuer/],
    ["that is not bound to a pod", { pod: null }, /^INVALID_API_KEY: The token is not bound to a pod/],
    ["of a service account no rule names", { serviceAccount: "other" }, /^PERMISSION_DENIED: No rule lets .* other/],
    ["of a namespace no rule names", { namespace: "billing" }, /^PERMISSION_DENIED: No rule lets .* billing/],
  ];
  for (const [name, facts, expected] of wrong) {
    test(`${name} is refused`, async () => {
      assert.match(await refusal(resolveSearch({ token: await cluster.token(facts) })), expected);
    });
  }

  test("that somebody else signed, with the cluster's own key id, is refused", async () => {
    const forger = await TestIssuer.open("first");
    assert.match(await refusal(resolveSearch({ token: await forger.token() })), /^INVALID_API_KEY: .*nobody we trust/);
    const unsigned = new UnsecuredJWT({ sub: "system:serviceaccount:search:gateway" })
      .setIssuer(issuer)
      .setAudience(audience)
      .setExpirationTime("1h")
      .encode();
    assert.match(await refusal(resolveSearch({ token: unsigned })), /^INVALID_API_KEY: /);
  });

  test("that was carried to another pod lends, books and watches nothing there", async () => {
    const token = await cluster.token();
    const bound = /^PERMISSION_DENIED: The token of search\/gateway is bound to pod search-0.*"search-1"/;
    await as({ token }, async ({ runtime }) => {
      const { grant } = await runtime.resolveKey({ keySha256: digestSecret(keys.search) });
      assert.match(await refusal(runtime.acquireLease(leaseOf(grant?.keyId ?? "", "search-1"))), bound);
      assert.match(
        await refusal(runtime.settle({ podId: "search-1", records: [recordOf(grant?.keyId ?? "")] })),
        bound,
      );
      assert.match(await refusal(runtime.getModels({ podId: "search-1" })), bound);
      const watch = async () => {
        for await (const _ of runtime.watch({ podId: "search-1", sinceVersion: 0n })) return;
      };
      assert.match(await refusal(watch()), bound);
    });
  });

  test("ends a watch when it expires, and opens no other", async () => {
    // Clocks may differ by five seconds: it is good for two more.
    await as({ token: await cluster.token({ expiresInS: -3 }) }, async ({ runtime }) => {
      const watch = async () => {
        let told = 0;
        for await (const _ of runtime.watch({ podId: "search-0", sinceVersion: 0n })) told++;
        return told;
      };
      assert.ok((await watch()) > 0);
      assert.match(await refusal(watch()), /^INVALID_API_KEY: The token has expired/);
    });
  });

  test("opens the keys of its teams only, and tells nothing of the others", async () => {
    await as({ token: await cluster.token() }, async ({ runtime }) => {
      for (const key of [keys.billing, keys.none, "sk-nobody-has-this-key"]) {
        const answer = await refusal(runtime.resolveKey({ keySha256: digestSecret(key) }));
        assert.equal(answer, "KEY_NOT_FOUND: There is no such key.");
      }
      const { body } = await admin("GET", `/key/info?key=${keys.billing}`);
      const strange = String((body.info as Record<string, unknown>).key_id);
      const notOurs = new RegExp(`^PERMISSION_DENIED: Key ${strange} is not of a team`);
      assert.match(await refusal(runtime.acquireLease(leaseOf(strange, "search-0"))), notOurs);
      const settle = runtime.settle({ podId: "search-0", records: [recordOf(strange)] });
      assert.match(await refusal(settle), notOurs);
      const { grant } = await runtime.resolveKey({ keySha256: digestSecret(keys.search) });
      const theirs = await as({ token: await cluster.token({ namespace: "platform", pod: "p" }) }, (platform) =>
        platform.runtime.resolveKey({ keySha256: digestSecret(keys.billing) }),
      );
      const teamBudget = theirs.grant?.budgets.find(({ scopeId }) => scopeId === "billing")?.budgetId;
      assert.ok(teamBudget !== undefined);
      const drain = runtime.acquireLease(leaseOf(grant?.keyId ?? "", "search-0", [teamBudget]));
      assert.match(await refusal(drain), /^PERMISSION_DENIED/);
    });
    assert.match(keyService.output, /A sidecar was shown a key of a team it does not serve/);
  });

  test("whose signing key was withdrawn is refused, and one signed with the new key taken, without a restart", async () => {
    const next = await TestIssuer.open("second");
    const old = await cluster.token();
    await writeKeySet(file("jwks.json"), [next]);
    await sleep(5_500);
    assert.match(await refusal(resolveSearch({ token: old })), /^INVALID_API_KEY: .*nobody we trust/);
    assert.ok((await resolveSearch({ token: await next.token() })).grant);
    cluster = next;
  });
});

describe("a certificate", () => {
  const account = "URI:spiffe://cluster.local/ns/search/sa/gateway";

  test("of a service account is taken for its SPIFFE id", async () => {
    assert.ok((await resolveSearch({ tls: authority.issue("good", account) })).grant);
  });

  const wrong: readonly (readonly [string, string, RegExp])[] = [
    ["of another trust domain", "URI:spiffe://evil.local/ns/search/sa/gateway", /name is not spiffe:\/\/cluster.local/],
    ["of a service account no rule names", "URI:spiffe://cluster.local/ns/search/sa/other", /^PERMISSION_DENIED/],
    ["whose id has more to its path", `${account}/extra`, /name is not spiffe:\/\/cluster.local/],
    ["with two ids", `${account},URI:spiffe://cluster.local/ns/platform/sa/x`, /name is not spiffe:/],
    ["without an id", "DNS:gateway.search", /^MISSING_API_KEY/],
  ];
  for (const [index, [name, names, expected]] of wrong.entries()) {
    test(`${name} is refused`, async () => {
      assert.match(await refusal(resolveSearch({ tls: authority.issue(`wrong-${index}`, names) })), expected);
    });
  }

  test("of an authority we do not trust, and one that has expired, are nobody's", async () => {
    assert.match(await refusal(resolveSearch({ tls: strangers.issue("stranger", account) })), /^MISSING_API_KEY/);
    assert.match(await refusal(resolveSearch({ tls: authority.issue("expired", account, -1) })), /^MISSING_API_KEY/);
  });

  test("and a token must be of one service account", async () => {
    const tls = authority.issue("both", account);
    assert.ok((await resolveSearch({ tls, token: await cluster.token() })).grant);
    const other = await cluster.token({ namespace: "platform" });
    assert.match(await refusal(resolveSearch({ tls, token: other })), /^INVALID_API_KEY: .*different service accounts/);
  });
});

describe("where sidecars have identities and administration has a port of its own", () => {
  test("neither the shared token nor the master key opens anything a sidecar is told", async () => {
    for (const token of [sharedToken, masterKey, "", "sk-guess"]) {
      assert.match(await refusal(resolveSearch({ token })), /^(?:INVALID|MISSING)_API_KEY/);
    }
  });

  test("the sidecars' port has no administration, and administration's no sidecars", async () => {
    const token = masterKey;
    const create = as({ token }, (client) => client.admin.createKey({ key: {} }));
    assert.match(await refusal(create), /^ROUTE_NOT_FOUND/);
    assert.equal((await ask("POST", `${url}/key/generate`, {})).status, 404);
    assert.equal((await ask("GET", `${url}/health/readiness`)).status, 200);
    assert.match(
      await refusal(as({ token }, ({ runtime }) => runtime.getModels({ podId: "p" }), adminUrl)),
      /^ROUTE_NOT/,
    );
    const ofSidecar = await cluster.token();
    const asAdmin = as({ token: ofSidecar }, (client) => client.admin.createKey({ key: {} }), adminUrl);
    assert.match(await refusal(asAdmin), /^INVALID_API_KEY/);
  });

  test("a sidecar talks to no KeyService whose certificate is not of its authorities, or for another host", async () => {
    const token = new Secret(await cluster.token());
    const parts = { token, podId: "search-0", clock: systemClock, random: systemRandom };
    const tls = tlsMaterial({ ...nothingShown(), caFile: strangers.file }, watching);
    const misled = new RemoteAuthority({ ...parts, url, tls });
    await assert.rejects(misled.resolve(digestSecret(keys.search)), /KeyService/);
    await misled.close();
  });
});

/** A sidecar process of pod `search-0`, which shows the token that is in file `NAME-token`. */
async function startSidecar(name: string, token: string, env: Readonly<Record<string, string>> = {}) {
  writeFileSync(file(`${name}-token`), token);
  writeFileSync(
    file("config.yaml"),
    "model_list: [{model_name: m, litellm_params: {model: m, mock_response: hi, input_cost_per_token: 0, output_cost_per_token: 0}}]",
  );
  const [port, adminPort] = [await freePort(), await freePort()];
  const sidecar = new Process(["sidecar", "--config", file("config.yaml")], {
    ...{ KEYSERVICE_URL: url, KEYSERVICE_CA_FILE: authority.file },
    ...{ TOLLGATE_KEYSERVICE_TOKEN_FILE: file(`${name}-token`), TOLLGATE_POD_ID: "search-0" },
    ...{ TOLLGATE_PORT: String(port), TOLLGATE_ADMIN_PORT: String(adminPort), TOLLGATE_ADMIN_HOST: "127.0.0.1" },
    ...{ TOLLGATE_DATA_DIR: file(name), ...env },
  });
  return { sidecar, port, adminPort };
}

test("a sidecar process that no rule names does not become ready, and its log says why", async () => {
  const { sidecar, adminPort } = await startSidecar("stranger", await cluster.token({ serviceAccount: "other" }));
  try {
    for (let tries = 0; tries < 300 && !sidecar.output.includes("are not heard"); tries++) await sleep(100);
    assert.match(sidecar.output, /No rule lets service account other of namespace search be a sidecar.*are not heard/);
    assert.equal((await fetch(`http://127.0.0.1:${adminPort}/startupz`)).status, 503);
  } finally {
    await sidecar.kill("SIGKILL");
  }
});

test("a sidecar process serves its team over both, and goes on when its token and its certificate are renewed", async () => {
  const account = "URI:spiffe://cluster.local/ns/search/sa/gateway";
  const own = authority.issue("sidecar", account);
  const certificate = { KEYSERVICE_CERT_FILE: own.certFile, KEYSERVICE_KEY_FILE: own.keyFile };
  const { sidecar, port, adminPort } = await startSidecar("sidecar", await cluster.token(), certificate);
  try {
    const call = (key: string) =>
      fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "Hello" }] }),
      }).then(({ status }) => status);
    for (let tries = 0; ; tries++) {
      const answer = await fetch(`http://127.0.0.1:${adminPort}/readyz`).catch(() => undefined);
      if (answer?.ok) break;
      assert.ok(tries < 300 && !sidecar.ended, sidecar.output);
      await sleep(100);
    }
    assert.deepEqual([await call(keys.search), await call(keys.billing)], [200, 401]);
    // The KeyService is restarted with another certificate and other signing keys: nothing of before is of use.
    const next = await TestIssuer.open("third");
    await writeKeySet(file("jwks.json"), [next]);
    writeFileSync(file("sidecar-token"), await next.token());
    const renewed = authority.issue("renewed", account);
    copyFileSync(renewed.keyFile, own.keyFile);
    copyFileSync(renewed.certFile, own.certFile);
    const server = authority.issue("server-renewed", "DNS:localhost");
    await keyService.kill("SIGTERM");
    keyService.restart({ TOLLGATE_TLS_CERT_FILE: server.certFile, TOLLGATE_TLS_KEY_FILE: server.keyFile });
    await ready();
    const made = await admin("POST", "/key/generate", { team_id: "search", max_budget: 1 });
    const untilMs = Date.now() + 20_000;
    let status = 0;
    while (status !== 200 && Date.now() < untilMs) {
      await sleep(250);
      status = await call(String(made.body.key));
    }
    assert.equal(status, 200, sidecar.output);
    assert.equal(await sidecar.kill("SIGTERM"), 0);
  } finally {
    await sidecar.kill("SIGKILL");
  }
});
