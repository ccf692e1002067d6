import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { configOf, loadText } from "./temporary.ts";

test("Redis is the router's, else the cache's, else the environment's", async (context) => {
  const redisOf = async (settings: object, env: Record<string, string> = {}) => {
    const { redis } = await configOf(context, JSON.stringify({ general_settings: {}, ...settings }), env);
    return redis && [redis.nodes[0]?.host, redis.nodes[0]?.port, redis.db, redis.username, redis.password?.reveal()];
  };
  const env = { REDIS_HOST: "env", REDIS_PORT: "7000", REDIS_PASSWORD: "p" };
  const cache = { litellm_settings: { cache: true, cache_params: { host: "cache" } } };
  assert.equal(await redisOf({}), undefined);
  assert.deepEqual(await redisOf({}, env), ["env", 7000, 0, undefined, "p"]);
  assert.deepEqual(await redisOf(cache, env), ["cache", 6379, 0, undefined, undefined]);
  assert.deepEqual(
    await redisOf({ ...cache, router_settings: { redis_host: "router", redis_port: "1", redis_password: "q" } }, env),
    ["router", 1, 0, undefined, "q"],
  );
  assert.deepEqual(await redisOf({ router_settings: { redis_url: "redis://u:p%40@[::1]:2/3" } }), [
    "::1",
    2,
    3,
    "u",
    "p@",
  ]);
  assert.equal(await redisOf({ litellm_settings: { cache_params: { type: "s3", host: "cache" } } }), undefined);
});

test("the REDIS_PORT Kubernetes makes of a Service is refused with a cure", async (context) => {
  const result = await loadText(context, "general_settings: {}\n", {
    REDIS_HOST: "r",
    REDIS_PORT: "tcp://10.0.0.1:6379",
  });
  assert.ok(!result.ok);
  assert.deepEqual(
    result.faults.map(({ message }) => message),
    ["the variable REDIS_PORT is no port; write a number such as 6379, or router_settings.redis_port"],
  );
});

describe("Redis", () => {
  const redisOf = async (context: TestContext, settings: object, env: Record<string, string> = {}) =>
    (await configOf(context, JSON.stringify({ general_settings: {}, ...settings }), env)).redis;
  const cache = (params: object) => ({ litellm_settings: { cache: true, cache_params: { type: "redis", ...params } } });
  const plain = { username: undefined, password: undefined, db: 0, tls: undefined, sentinel: undefined };
  const safe = { caFile: undefined, certFile: undefined, keyFile: undefined, verifies: true, checksHost: true };

  test("over TLS is verified unless the file says otherwise", async (context) => {
    assert.deepEqual((await redisOf(context, { router_settings: { redis_url: "rediss://r" } }))?.tls, safe);
    assert.deepEqual((await redisOf(context, cache({ host: "r", ssl: true })))?.tls, safe);
    const files = { ssl_ca_certs: "/ca.pem", ssl_certfile: "/me.pem", ssl_keyfile: "/me.key" };
    const other = cache({ host: "r", ssl: "true", ...files, ssl_cert_reqs: "none", ssl_check_hostname: false });
    assert.deepEqual((await redisOf(context, other))?.tls, {
      ...{ caFile: "/ca.pem", certFile: "/me.pem", keyFile: "/me.key", verifies: false, checksHost: false },
    });
    const { tls } =
      (await redisOf(context, cache({ url: "rediss://r?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/ca.pem" }))) ?? {};
    assert.deepEqual(tls, { ...safe, caFile: "/ca.pem", verifies: false });
    assert.equal((await redisOf(context, {}, { REDIS_HOST: "r", REDIS_SSL: "False" }))?.tls, undefined);
    assert.deepEqual((await redisOf(context, {}, { REDIS_URL: "rediss://r", REDIS_SSL_CA_CERTS: "/ca.pem" }))?.tls, {
      ...{ ...safe, caFile: "/ca.pem" },
    });
  });

  test("what the file says of how goes with the variables' where", async (context) => {
    const env = { REDIS_HOST: "env", REDIS_PASSWORD: "p" };
    const redis = await redisOf(context, cache({ ssl: true }), env);
    assert.deepEqual([redis?.nodes, redis?.password?.reveal(), redis?.tls], [[{ host: "env", port: 6379 }], "p", safe]);
    const besides = await redisOf(context, {
      router_settings: { redis_host: "r", cache_kwargs: { ssl: true, db: 2 } },
    });
    assert.deepEqual([besides?.nodes[0]?.host, besides?.db, besides?.tls], ["r", 2, safe]);
  });

  test("is a Cluster by its nodes", async (context) => {
    const nodes = [
      { host: "a", port: 7001 },
      { host: "b", port: 7002 },
    ];
    const expected = { kind: "cluster", nodes, ...plain };
    assert.deepEqual(
      await redisOf(context, cache({ redis_startup_nodes: [nodes[0], { host: "b", port: "7002" }] })),
      expected,
    );
    assert.deepEqual(await redisOf(context, { router_settings: { cache_kwargs: { startup_nodes: nodes } } }), expected);
    assert.deepEqual(await redisOf(context, {}, { REDIS_CLUSTER_NODES: JSON.stringify(nodes) }), expected);
  });

  test("has a master that sentinels know", async (context) => {
    const nodes = [{ host: "s", port: 26_379 }];
    const params = { sentinel_nodes: [["s", 26_379]], service_name: "mymaster", sentinel_password: "q", password: "p" };
    const env = {
      ...{ REDIS_SENTINEL_NODES: '[["s", 26379]]', REDIS_SERVICE_NAME: "mymaster" },
      ...{ REDIS_SENTINEL_PASSWORD: "q", REDIS_PASSWORD: "p" },
    };
    for (const redis of [await redisOf(context, cache(params)), await redisOf(context, {}, env)]) {
      assert.deepEqual([redis?.kind, redis?.nodes, redis?.sentinel?.serviceName], ["sentinels", nodes, "mymaster"]);
      assert.deepEqual([redis?.password?.reveal(), redis?.sentinel?.password?.reveal()], ["p", "q"]);
    }
  });

  test("in variables that do not fit is refused with a cure, without their value", async (context) => {
    for (const [env, cure] of [
      [{ REDIS_CLUSTER_NODES: "secret:7001" }, /^the variable REDIS_CLUSTER_NODES does not fit; write /],
      [{ REDIS_URL: "http://secret" }, /^the variable REDIS_URL does not fit; write an address such as redis:/],
      [{ REDIS_HOST: "r", REDIS_SSL: "secret" }, /^the variable REDIS_SSL does not fit; write true or false$/],
    ] as const) {
      const result = await loadText(context, "general_settings: {}\n", env);
      assert.ok(!result.ok);
      const [{ message = "" } = {}, ...others] = result.faults;
      assert.equal(others.length, 0);
      assert.match(message, cure);
      assert.doesNotMatch(message, /secret/);
    }
  });
});
