import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type SignedRequest, signRequest } from "../../src/providers/sigv4.ts";
import { Secret } from "../../src/secret.ts";
import { signatureFault } from "../aws-signature.ts";

/** AWS's test suite for Signature Version 4 has these. */
const credentials = {
  accessKeyId: "AKIDEXAMPLE",
  secretAccessKey: new Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
  sessionToken: undefined,
};
const scope = { region: "us-east-1", service: "service", nowMs: Date.parse("2015-08-30T12:36:00Z") };

function signature(request: Partial<SignedRequest> & { path?: string }, sessionToken?: string): string | undefined {
  const { method = "GET", path = "/", headers = {}, body = Buffer.alloc(0) } = request;
  const url = new URL(path, "https://example.amazonaws.com");
  const token = sessionToken === undefined ? undefined : new Secret(sessionToken);
  const added = signRequest({ method, url, headers, body }, { ...credentials, sessionToken: token }, scope);
  return /Signature=([0-9a-f]{64})$/.exec(added.authorization ?? "")?.[1];
}

test("AWS's published signatures are met", () => {
  const expected: readonly (readonly [string | undefined, string])[] = [
    // get-vanilla, post-vanilla
    [signature({}), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"],
    [signature({ method: "POST" }), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"],
    // post-x-www-form-urlencoded
    [
      signature({
        ...{ method: "POST", headers: { "content-type": "application/x-www-form-urlencoded" } },
        body: Buffer.from("Param1=value1"),
      }),
      "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ],
    // get-vanilla-query-order-key-case, get-vanilla-query-order-value
    [
      signature({ path: "/?Param2=value2&Param1=value1" }),
      "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ],
    [
      signature({ path: "/?Param1=value2&Param1=Value1" }),
      "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ],
    // get-unreserved
    [
      signature({ path: "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" }),
      "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ],
    // post-sts-header-before
    [
      signature(
        { method: "POST" },
        "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==",
      ),
      "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ],
  ];
  for (const [found, wanted] of expected) assert.equal(found, wanted);
});

test("an ARN in the path gives the signature that AWS's own library gives", () => {
  const arn = "arn:aws:bedrock:us-west-2:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
  const added = signRequest(
    {
      method: "POST",
      url: new URL(`https://bedrock-runtime.us-west-2.amazonaws.com/model/${encodeURIComponent(arn)}/converse`),
      headers: { "content-type": "application/json" },
      body: Buffer.from('{"messages":[]}'),
    },
    { ...credentials, sessionToken: new Secret("AQoDYXdzEPT//////////wEXAMPLE") },
    { region: "us-west-2", service: "bedrock", nowMs: Date.parse("2026-01-02T03:04:05Z") },
  );
  // Made by @smithy/signature-v4 5.7.5.
  assert.equal(
    added.authorization,
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-west-2/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=9103ddbb248ee556baae1013d4f03b2117cb2c8f79adea58a716f2ec361e2360",
  );
});

test("whatever is signed, an independent check agrees, and disagrees when anything changed", () => {
  const keys = new Map([["AKIDEXAMPLE", { secret: credentials.secretAccessKey.reveal() }]]);
  const segment = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).map((text) => encodeURIComponent(text));
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 4 }), fc.uint8Array(), (segments, bytes) => {
      const url = new URL(`http://127.0.0.1:9/model/${segments.join("/")}`);
      const body = Buffer.from(bytes);
      const now = { region: "eu-central-1", service: "bedrock", nowMs: Date.now() };
      const headers = { "content-type": "application/json" };
      const added = signRequest({ method: "POST", url, headers, body }, credentials, now);
      const came = { method: "POST", url: url.pathname, headers: { ...headers, ...added, host: url.host } };
      assert.equal(signatureFault(came, body, now, keys), undefined);
      assert.match(signatureFault(came, Buffer.concat([body, body, Buffer.from("x")]), now, keys) ?? "", /wrong/);
      assert.match(signatureFault({ ...came, url: `${url.pathname}x` }, body, now, keys) ?? "", /wrong/);
      const other = { ...came, headers: { ...came.headers, "content-type": "text/plain" } };
      assert.match(signatureFault(other, body, now, keys) ?? "", /wrong/);
    }),
    { numRuns: 100 },
  );
});

test("the key of a day is not used on the next, nor another secret's", () => {
  const request = { method: "POST", url: new URL("https://a.example/"), headers: {}, body: Buffer.alloc(0) } as const;
  const at = (nowMs: number, secret = credentials.secretAccessKey) =>
    signRequest(request, { ...credentials, secretAccessKey: secret }, { ...scope, nowMs }).authorization;
  const day = 86_400_000;
  const first = at(scope.nowMs);
  const second = at(scope.nowMs + day);
  assert.notEqual(first, second);
  assert.equal(at(scope.nowMs), first);
  assert.equal(at(scope.nowMs + day, new Secret(credentials.secretAccessKey.reveal())), second);
  assert.notEqual(at(scope.nowMs, new Secret("another")), first);
});
