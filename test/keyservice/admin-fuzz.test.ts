import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { Agent, type IncomingHttpHeaders, type OutgoingHttpHeaders, request as send } from "node:http";
import { connect } from "node:http2";
import { after, before, describe, test } from "node:test";
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import type { JsonObject } from "../../src/completion.ts";
import { adminServices } from "../../src/keyservice/administration.ts";
import { routes } from "../../src/keyservice/http.ts";
import { digestSecret } from "../../src/keyservice/secrets.ts";
import { masterKey, Stage } from "./admin-stage.ts";

const runsPerRoute = 40;
/** Messages with others in them have more places to be wrong. */
const runsOfNested = 120;
/** Whoever waits longer for an answer waits for nothing. */
const hangMs = 10_000;
/** Secrets, and a whitelist, that no answer may show; nobody sends them but the set-up. */
const canaries = { model: "canary-model-of-another", secret: "canary-secret-of-a-provider" } as const;

let stage: Stage;
const agent = new Agent({ keepAlive: true });
before(async () => {
  stage = await Stage.open();
});
after(async () => {
  agent.destroy();
  await stage.close();
  assert.deepEqual(stage.bugs, []);
});

/** What a request may name, made anew for each route: some routes end it. */
interface World {
  readonly ids: Readonly<Record<string, string>>;
  /** Of the master, of a key that is nobody's, and of a team's member. */
  readonly callers: readonly string[];
  /** What must not be shown. */
  readonly secrets: readonly string[];
  /** Whether an administrator may have moved the other's key to the team, or to the user, who then see its whitelist by right. */
  isOtherGiven: boolean;
}

let worlds = 0;

async function makeWorld(): Promise<World> {
  const n = ++worlds;
  const made = async (path: string, body: JsonObject) => {
    const answer = await stage.http("POST", path, body);
    assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
    return answer.body as Record<string, string>;
  };
  const ids = {
    ...{ team_id: `team-${n}`, user_id: `user-${n}`, organization_id: `org-${n}`, customer: `customer-${n}` },
    ...{ tag: `tag-${n}`, budget_id: `budget-${n}`, model_id: `model-${n}`, credential_name: `credential-${n}` },
  };
  await made("/organization/new", { organization_id: ids.organization_id, organization_alias: ids.organization_id });
  await made("/budget/new", { budget_id: ids.budget_id, max_budget: 5 });
  await made("/team/new", { team_id: ids.team_id, members_with_roles: [{ user_id: ids.user_id, role: "admin" }] });
  const member = await made("/user/new", { user_id: ids.user_id });
  await made("/customer/new", { user_id: ids.customer });
  await made("/tag/new", { name: ids.tag });
  const litellm_params = { model: "openai/gpt-4o", api_key: canaries.secret };
  await made("/model/new", { model_name: "m", litellm_params, model_info: { id: ids.model_id } });
  await made("/credentials", { ...ids, credential_values: { api_key: canaries.secret }, credential_info: {} });
  const own = await made("/key/generate", { team_id: ids.team_id, user_id: ids.user_id });
  const nobodys = await made("/key/generate", {});
  const other = await made("/key/generate", { key_alias: `other-${n}`, models: [canaries.model] });
  const { key: ownKey = "", key_id: key = "" } = own;
  return {
    ids: { ...ids, key, other: other.key_id ?? "" },
    callers: [masterKey, nobodys.key ?? "", member.key ?? "", ownKey],
    secrets: [other.key ?? "", canaries.secret],
    isOtherGiven: false,
  };
}

const nasty = [
  ...["\u0000", "a\u0000b", "\ud800", "'; DROP TABLE keys; --", "' OR '1'='1", '"', "\\", "", " ", "sk-", "sk-\u0000"],
  ...["x".repeat(5_000), "-1", "0", "1e308", "NaN", "9999999999mo", "2026-02-30", "0000-01-01", "9999-12-31"],
  ...[
    "9999-12-31T23:59:59+99:99",
    "infinity",
    "now",
    "epoch",
    "-2026-01-01",
    "__proto__",
    "constructor",
    "*",
    "/",
    "../../etc/passwd",
    "%00",
    "%FF",
    "%",
    "$1",
  ],
  ...["99999999999999999999", "\u202e", "null", "1d", "2026-01-01", "sk-0123456789abcdefghij", "a,b", "[]", "{}"],
];
const value = fc.oneof(
  fc.constantFrom<unknown>(...nasty),
  fc.constantFrom<unknown>(-1, 0, 1, 1.5, 1e-20, 1e20, 1e308, 2 ** 53, -(2 ** 63), -0, true, false, null),
  fc.constantFrom<unknown>([], [null], ["\u0000"], ["*"], [[[]]], [{}], {}, { a: "\u0000" }, { "\ud800": 1 }),
  fc.constantFrom<unknown>(JSON.parse('{"__proto__":{"x":1}}'), Array(2_000).fill("x"), { constructor: 1 }),
  fc.jsonValue({ maxDepth: 3 }),
);
const textValue = fc.oneof(fc.constantFrom(...nasty), fc.string({ unit: "binary" }), fc.constantFrom("1", "true"));

/** Every word of the code that reads requests that may be a field's or a parameter's name. */
const names = (() => {
  const directory = new URL("../../src/keyservice/", import.meta.url);
  const files = readdirSync(directory).filter((file) => /^http-.*\.ts$/.test(file));
  const code = files.map((file) => readFileSync(new URL(file, directory), "utf8")).join("\n");
  return [...new Set(code.match(/\b[a-z]+(?:_[a-z]+)+\b|(?<=["'(,{]\s*)[a-z]{2,12}(?=["']?\s*[:,)}])/g))];
})();

/** A body, or a query, that nearly every route can do something with. */
function usual({ ids }: World): JsonObject {
  const { key = "", team_id = "", user_id = "", organization_id = "", tag = "", model_id = "" } = ids;
  return {
    ...{ key, keys: [key], team_id, team_ids: [team_id], user_id, user_ids: [user_id], organization_id, name: tag },
    ...{
      organization_ids: [organization_id],
      budget_id: ids.budget_id ?? "",
      budgets: [ids.budget_id ?? ""],
      id: model_id,
    },
    ...{ member: { user_id, role: "user" }, models: ["m"], model_name: "m", model_info: { id: model_id } },
    ...{ litellm_params: { model: "openai/gpt-4o" }, credential_name: ids.credential_name ?? "" },
    ...{ credential_values: { api_key: "k" }, credential_info: {}, reset_to: 0, api_key: key, tags: tag },
    ...{
      start_date: "2026-11-01",
      end_date: "2026-11-30",
      page: 1,
      page_size: 5,
      names: [tag],
      end_user_id: ids.customer ?? "",
    },
  };
}

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer | undefined;
}

interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

function exchange({ method, path, headers, body }: Sent): Promise<Got> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(stage.origin);
    const signal = AbortSignal.timeout(hangMs);
    const outgoing = send(
      { hostname, port, method, path, headers, agent, signal, setDefaultHeaders: true },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("error", reject);
        answer.on("end", () =>
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text: Buffer.concat(chunks).toString() }),
        );
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** What of our insides an error may not show: Postgres' words, names of hidden columns, places in the code. */
const insides =
  /secret_hmac|pepper_id|create_request_id|secret_params|syntax error|violates|invalid input|relation "|column "|duplicate key|\$\d+\b|\bpg_\w+|\bat .+:\d+:\d+|node_modules|\.ts:\d+|\b(?:SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b/;

function check(sent: Sent, got: Got, world: World, isMaster: boolean): void {
  const asked = `${decodeURIComponentSafely(sent.path)} ${sent.path} ${JSON.stringify(sent.headers)} ${sent.body?.toString()}`;
  const context = `${sent.method} ${asked.slice(0, 1_500)}\n-> ${got.status} ${got.text.slice(0, 1_500)}`;
  const unasked = (text: string | undefined) => text === undefined || asked.includes(text);
  assert.ok(got.status >= 200 && got.status < 500, context);
  // Whoever makes a key gets its secret and LiteLLM's token, which is the digest of that.
  const made = new Set((got.text.match(/sk-[\w-]+/g) ?? []).map((secret) => digestSecret(secret).toString("hex")));
  for (const digest of got.text.match(/(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g) ?? []) {
    assert.ok(made.has(digest) || asked.includes(digest), `a digest is shown: ${context}`);
  }
  for (const secret of world.secrets) assert.ok(!got.text.includes(secret), `a secret is shown: ${context}`);
  const seesAll = isMaster && got.status < 400;
  world.isOtherGiven ||= seesAll && sent.method !== "GET" && asked.includes(world.ids.other ?? "");
  assert.ok(seesAll || world.isOtherGiven || !got.text.includes(canaries.model), `a whitelist is shown: ${context}`);
  if (got.status < 400) return;
  assert.ok(
    unasked(insides.exec(got.text)?.[0] ?? undefined) || !insides.test(got.text),
    `our insides are shown: ${context}`,
  );
  if (sent.method !== "HEAD") {
    assert.equal(got.headers["content-type"], "application/json", context);
    assert.doesNotThrow(() => JSON.parse(got.text), context);
  }
}

function decodeURIComponentSafely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const headerText = (text: string) => text.replace(/[^\t\x20-\x7e\x80-\xff]/g, "").slice(0, 4_000);

/** Who asks: mostly one of the world's callers, properly; else something odd. */
function credentials(world: World): fc.Arbitrary<{ headers: OutgoingHttpHeaders; isMaster: boolean }> {
  const [, , member = ""] = world.callers;
  return fc.oneof(
    {
      weight: 8,
      arbitrary: fc.constantFrom(...world.callers).map((key) => ({
        headers: { authorization: `Bearer ${key}` } as OutgoingHttpHeaders,
        isMaster: key === masterKey,
      })),
    },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom<OutgoingHttpHeaders>(
          ...[{}, { authorization: "" }, { authorization: "Bearer" }, { authorization: "Bearer  " }],
          ...[{ authorization: `Basic ${Buffer.from(`a:${member}`).toString("base64")}` }, { authorization: member }],
          ...[{ authorization: `bearer \t${member}` }, { "x-api-key": member }, { "api-key": "sk-\u00ff\u0080" }],
          ...[{ "x-litellm-api-key": "x".repeat(5_000) }, { authorization: "Bearer sk-' OR 1=1 --" }],
          ...[{ "api-key": [member, "sk-other"] }, { authorization: `Bearer ${world.ids.key}` }],
        )
        .map((headers) => ({ headers, isMaster: false })),
    },
    {
      weight: 1,
      arbitrary: textValue.map((actor) => ({
        headers: { authorization: `Bearer ${masterKey}`, "litellm-changed-by": headerText(actor) },
        isMaster: true,
      })),
    },
  );
}

/** Headers that say what the body is, or what is wanted: mostly the truth. */
const oddHeaders = fc.oneof(
  { weight: 8, arbitrary: fc.constant<OutgoingHttpHeaders>({ "content-type": "application/json" }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<OutgoingHttpHeaders>(
      ...[
        {},
        { "content-type": "" },
        { "content-type": "text/plain" },
        { "content-type": "application/json; charset=utf-16" },
      ],
      ...[
        { "content-type": "multipart/form-data; boundary=x" },
        { "content-type": "application/x-www-form-urlencoded" },
      ],
      ...[{ "content-type": "application/json", "content-encoding": "gzip" }, { "content-type": "application/grpc" }],
      ...[{ "content-type": "application/json", accept: "text/csv" }, { "content-type": "a".repeat(3_000) }],
      ...[{ "content-type": "application/json", accept: "\u00ff", "x-request-id": "'\u00e9\t" }],
      ...[{ "content-type": "application/json", range: "bytes=0-1", "if-none-match": "*", te: "trailers" }],
    ),
  },
);

/** Bodies that are no JSON, or not as they should be. */
const brokenBody = fc.oneof(
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom(
      ...[
        '""',
        "[]",
        "null",
        "0",
        '{"key":',
        "{'key':1}",
        '{"key":"a","key":"b"}',
        '{"max_budget":1e400}',
        '\ufeff{"key":"a"}',
      ],
      ...[`{"metadata":${"[".repeat(50_000)}`, `{"metadata":${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}}`],
      ...[`{"key_alias":"${"x".repeat(1_100_000)}"}`, '{"key":"\\ud800"}', `{"rpm_limit":${"9".repeat(5_000)}}`],
    )
    .map((text) => Buffer.from(text)),
  fc.constant(
    Buffer.concat([Buffer.from('{"key_alias":"'), Buffer.from([0xff, 0xc0, 0x80, 0xed, 0xa0]), Buffer.from('"}')]),
  ),
);

const overlay = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 4 });

function bodyOf(base: JsonObject, over: fc.Arbitrary<Record<string, unknown>>): fc.Arbitrary<Buffer> {
  const usualNames = Object.keys(base);
  const jsonBody = fc
    .tuple(fc.dictionary(fc.constantFrom(...usualNames), value, { maxKeys: 2 }), over, fc.subarray(usualNames))
    .map(([wrong, more, kept]) => {
      const some = kept.length === 0 ? base : Object.fromEntries(kept.map((name) => [name, base[name]]));
      return Buffer.from(JSON.stringify({ ...some, ...more, ...wrong }));
    });
  return fc.oneof({ weight: 8, arbitrary: jsonBody }, { weight: 1, arbitrary: brokenBody });
}

/** A part of a path: an id that there is, or one that is nothing. */
function segment(world: World): fc.Arbitrary<string> {
  const raw = [
    "%00",
    "%FF",
    "%",
    "%2e%2e%2f",
    "..",
    "%C0%80",
    "%E2%80",
    "%27%20OR%201=1",
    "x".repeat(3_000),
    "%2F",
    "a;b",
  ];
  return fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...Object.values(world.ids)) },
    { weight: 1, arbitrary: fc.constantFrom(...raw) },
    { weight: 1, arbitrary: textValue.map((text) => encodeURIComponent(text.toWellFormed()).slice(0, 4_000)) },
  );
}

function pathOf(path: string, world: World): fc.Arbitrary<string> {
  const parts = path.split(/\{\w+\}/);
  return fc.tuple(...parts.slice(1).map(() => segment(world))).chain((segments) => {
    const filled = parts.reduce((text, part, index) => `${text}${segments[index - 1]}${part}`);
    return fc.oneof(
      { weight: 12, arbitrary: fc.constant(filled) },
      {
        weight: 1,
        arbitrary: fc.constantFrom(`${filled}/`, `/${filled}`, `${filled}%00`, `/x/..${filled}`, `${filled}#x`),
      },
    );
  });
}

function queryOf(world: World): fc.Arbitrary<string> {
  const base = Object.entries(usual(world)).flatMap(([name, one]) =>
    typeof one === "string" || typeof one === "number" ? [[name, String(one)] as const] : [],
  );
  const encoded = fc
    .tuple(fc.subarray(base), fc.array(fc.tuple(fc.constantFrom(...names), textValue), { maxLength: 3 }))
    .map(([some, more]) =>
      [...some, ...more]
        .map(([name, text]) => `${name}=${encodeURIComponent(text.toWellFormed()).slice(0, 2_000)}`)
        .join("&"),
    );
  const raw = fc.constantFrom(
    "",
    "?",
    "&&==",
    "key=%",
    "key=%FF%C0",
    "%00=%00",
    "a[]=1&a[b]=2",
    "page=1&page=2",
    "key=\u00e9".slice(0, 4),
  );
  return fc.oneof({ weight: 5, arbitrary: encoded }, { weight: 1, arbitrary: raw });
}

const otherMethods = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "DELETE", "PATCH", "TRACE", "PROPFIND", "LINK", "QUERY"];

for (const [path, route] of routes) {
  const methods = [route.method].flat();
  test(`whatever is sent to ${path}, the answer blames nobody else, hides what it has to, and comes`, async () => {
    const world = await makeWorld();
    const method = fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom<string>(...methods) },
      { weight: 1, arbitrary: fc.constantFrom(...otherMethods) },
    );
    const parts = fc.record({
      ...{ method, path: pathOf(path, world), query: queryOf(world), who: credentials(world), odd: oddHeaders },
      body: bodyOf(usual(world), overlay),
    });
    await fc.assert(
      fc.asyncProperty(parts, async ({ method: verb, path: filled, query, who, odd, body }) => {
        const hasBody = verb !== "GET" && verb !== "HEAD" && verb !== "TRACE";
        const sent: Sent = {
          ...{ method: verb, path: query === "" ? filled : `${filled}?${query}` },
          headers: { ...odd, ...who.headers },
          body: hasBody ? body : undefined,
        };
        check(sent, await exchange(sent), world, who.isMaster);
      }),
      { numRuns: runsPerRoute, endOnFailure: true },
    );
  });
}

const masks = ["", "alias", "models,metadata", "maxBudgetUsd", "litellmParams", "values", "role", "*", "no.such"];
const struct = { model: "openai/gpt-4o", api_key: "k" };

/** The JSON of a message as it might be meant. */
function messageOf(message: DescMessage, base: JsonObject, depth = 0): fc.Arbitrary<Record<string, unknown>> {
  const fields = message.fields
    .filter(({ name }) => !/^(?:etag|page_token|request_id|secret)$/.test(name))
    .map((field): [string, fc.Arbitrary<unknown>] => {
      const one = properValue(field, base, depth);
      const many = field.fieldKind === "list" ? fc.array(one, { minLength: 1, maxLength: 2 }) : one;
      // Whatever says which thing is meant is nearly always there.
      const absent = /^(?:kind|dimension|id|key|name)$|_id$/.test(field.name) || message.fields.length < 4 ? 1 : 20;
      const proper = field.fieldKind === "map" ? fc.constant({ name: "m" }) : many;
      return [
        field.jsonName,
        fc.oneof({ weight: 8, arbitrary: proper }, { weight: absent, arbitrary: fc.constant(undefined) }),
      ];
    });
  return fc.record(Object.fromEntries(fields));
}

function properValue(field: DescField, base: JsonObject, depth: number): fc.Arbitrary<unknown> {
  if (field.message !== undefined) {
    const { typeName } = field.message;
    if (typeName === "google.protobuf.FieldMask") return fc.constantFrom(...masks);
    if (typeName === "google.protobuf.Timestamp")
      return fc.constantFrom("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    if (typeName === "google.protobuf.Struct") return fc.constant(struct);
    return depth > 3 ? fc.constant({}) : messageOf(field.message, base, depth + 1);
  }
  if (field.enum !== undefined) return fc.constantFrom(...field.enum.values.map(({ number }) => number).slice(1));
  if (field.scalar === ScalarType.BOOL) return fc.boolean();
  if (field.scalar !== ScalarType.STRING) return fc.constantFrom(0, 1, 100);
  if (/usd$/.test(field.name)) return fc.constantFrom("5", "0", "0.000000001");
  if (/duration|period/.test(field.name)) return fc.constantFrom("1d", "1mo");
  if (/day$/.test(field.name)) return fc.constantFrom("2026-11-01", "2026-11-30");
  if (field.name === "role") return fc.constantFrom("admin", "user", "internal_user");
  const known = [base[field.name], base[`${field.name}_id`], base[`${field.name}_name`]].filter(
    (id) => id !== undefined,
  );
  const others = [base.key, base.team_id, base.user_id, base.organization_id];
  const made = fc.nat(1_000_000).map((n) => `new-${n}`);
  return fc.oneof(fc.constantFrom(...(known.length > 0 ? known : others)), fc.constantFrom(...others), made);
}

/** Puts other values in a few of the places of a message, however deep. */
function spoil(message: Record<string, unknown>, spots: readonly { at: number; wrong: unknown }[]): object {
  const copy = JSON.parse(JSON.stringify(message)) as Record<string, unknown>;
  const places: [Record<string, unknown>, string][] = [];
  const visit = (inside: Record<string, unknown>) => {
    for (const [name, held] of Object.entries(inside)) {
      places.push([inside, name]);
      if (typeof held === "object" && held !== null) visit(held as Record<string, unknown>);
    }
  };
  visit(copy);
  for (const { at, wrong } of spots) {
    const [inside, name] = places[at % places.length] ?? [copy, "key"];
    inside[name] = wrong;
  }
  return copy;
}

describe("by gRPC's messages", () => {
  for (const service of adminServices) {
    for (const method of service.methods) {
      test(`whatever is sent to ${service.typeName}/${method.name}, the same holds`, async () => {
        const world = await makeWorld();
        const base = usual(world);
        const spot = fc.record({ at: fc.nat(1_000), wrong: value });
        const spots = fc.oneof(fc.constant([]), fc.array(spot, { minLength: 1, maxLength: 2 }));
        const json = fc
          .tuple(messageOf(method.input, { ...base, ...world.ids, entity_id: world.ids.team_id ?? "" }), spots)
          .map(([message, wrongs]) => Buffer.from(JSON.stringify(spoil(message, wrongs))));
        const bytes = fc.oneof(
          fc.uint8Array({ maxLength: 64 }).map((some) => Buffer.from(some)),
          // A text that is not UTF-8, in the first field.
          fc.constant(Buffer.from([0x0a, 0x03, 0xff, 0xc0, 0x80])),
        );
        const payload = fc.oneof(
          { weight: 8, arbitrary: json.map((body) => ({ body, type: "application/json" })) },
          { weight: 1, arbitrary: brokenBody.map((body) => ({ body, type: "application/json" })) },
          { weight: 1, arbitrary: bytes.map((body) => ({ body, type: "application/proto" })) },
        );
        await fc.assert(
          fc.asyncProperty(payload, credentials(world), async ({ body, type }, who) => {
            const path = `/${service.typeName}/${method.name}`;
            const sent: Sent = { method: "POST", path, headers: { "content-type": type, ...who.headers }, body };
            check(sent, await exchange(sent), world, who.isMaster);
          }),
          {
            numRuns: method.input.fields.some(({ message }) => message !== undefined) ? runsOfNested : runsPerRoute,
            endOnFailure: true,
          },
        );
      });
    }
  }

  test("bytes that are no message are the caller's fault by gRPC too", async () => {
    const session = connect(stage.origin);
    const headers = { "content-type": "application/grpc+proto", te: "trailers", authorization: `Bearer ${masterKey}` };
    const path = "/tollgate.admin.v1.KeyAdminService/GetKey";
    const stream = session.request({ ":method": "POST", ":path": path, ...headers });
    stream.end(Buffer.from([0, 0, 0, 0, 5, 0x0a, 0x03, 0xff, 0xc0, 0x80]));
    stream.resume();
    const [trailers] = await once(stream, "trailers", { signal: AbortSignal.timeout(hangMs) });
    session.close();
    assert.equal(trailers["grpc-status"], String(Code.InvalidArgument));
  });
});
