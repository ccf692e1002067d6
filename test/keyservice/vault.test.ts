import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { inspect } from "node:util";
import fc from "fast-check";
import type { Json, JsonObject } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { maskedParams, merged, splitParams, unmasked } from "../../src/keyservice/secret-params.ts";
import { Vault } from "../../src/keyservice/vault.ts";
import { Secret } from "../../src/secret.ts";

const [oldKey, newKey] = [new Secret("the old encryption key"), new Secret("the new encryption key")];
const plain = { api_key: "sk-very-secret-0123456789", nested: { a: [1, "zwei", null] } };

function failureOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof GatewayError);
    return error.code;
  }
  return "none";
}

describe("a vault", () => {
  it("gives back what was put in, to whom it belongs, and writes it differently each time", () => {
    const vault = new Vault([newKey]);
    const [one, two] = [vault.seal(plain, "model:1"), vault.seal(plain, "model:1")];
    assert.deepEqual(vault.open(one, "model:1"), plain);
    assert.notDeepEqual(one.bytes, two.bytes);
    assert.equal(one.bytes.includes("sk-very"), false);
    assert.equal(
      failureOf(() => vault.open(one, "model:2")),
      "secrets_unreadable",
    );
  });

  it("does not open what was changed, wherever that was", () => {
    const vault = new Vault([newKey]);
    const { keyId, bytes } = vault.seal(plain, "model:1");
    for (let index = 0; index < bytes.length; index++) {
      const changed = Buffer.from(bytes);
      changed[index] = (changed[index] ?? 0) ^ 1;
      assert.equal(
        failureOf(() => vault.open({ keyId, bytes: changed }, "model:1")),
        "secrets_unreadable",
        `byte ${index}`,
      );
    }
    for (let length = 0; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length);
      assert.equal(
        failureOf(() => vault.open({ keyId, bytes: cut }, "model:1")),
        "secrets_unreadable",
        `${length} bytes`,
      );
    }
  });

  it("reads with every key it knows and writes with the newest", () => {
    const before = new Vault([oldKey]);
    const both = new Vault([newKey, oldKey]);
    const after = new Vault([newKey]);
    const sealed = before.seal(plain, "model:1");
    assert.deepEqual(both.open(sealed, "model:1"), plain);
    assert.equal(
      failureOf(() => after.open(sealed, "model:1")),
      "secrets_unreadable",
    );
    const anew = both.seal(plain, "model:1");
    assert.equal(anew.keyId, both.newestKeyId);
    assert.notEqual(anew.keyId, sealed.keyId);
    assert.deepEqual(after.open(anew, "model:1"), plain);
  });

  it("shows its keys nowhere", () => {
    const vault = new Vault([newKey]);
    const shown = `${inspect(vault, { depth: 9, showHidden: true })} ${JSON.stringify(vault)} ${vault.newestKeyId}`;
    assert.equal(shown.includes(newKey.reveal()), false);
    assert.match(vault.newestKeyId, /^[0-9a-f]{8}$/);
  });
});

const harmless: JsonObject = {
  model: "openai/gpt-4o",
  api_base: "https://api.example.com/v1",
  api_key: "os.environ/OPENAI_API_KEY",
  rpm: 5,
  anything: 7,
  input_cost_per_token_above_200k_tokens: "0.000001",
  aws_region_name: "eu-central-1",
};
const secrets: JsonObject = {
  api_key: "sk-secret",
  aws_secret_access_key: "secret",
  vertex_credentials: { private_key: "secret", type: "service_account" },
  extra_headers: { "X-Key": "secret" },
  whatever_comes_next: "secret",
  azure_ad_token: "secret",
};

describe("parameters that may be secret", () => {
  it("are all but those known to be harmless, numbers, flags, and references to an environment", () => {
    assert.deepEqual(splitParams(harmless), { open: harmless, secret: {} });
    assert.deepEqual(splitParams(secrets), { open: {}, secret: secrets });
  });

  it("show four characters at the most, and those only of long secrets", () => {
    assert.deepEqual(
      maskedParams({ ...harmless, other_key: "0123456789abcdefWXYZ", short_key: "0123456789abcdefXYZ" }),
      {
        ...harmless,
        other_key: "****WXYZ",
        short_key: "****",
      },
    );
    assert.equal(/secret|service/.test(JSON.stringify(Object.values(maskedParams(secrets)))), false);
  });

  it("stay as they are when what is shown of them comes back, whatever they are", () => {
    const json = fc.jsonValue({ maxDepth: 3 }).map((value) => value as Json);
    fc.assert(
      fc.property(fc.dictionary(fc.stringMatching(/^[a-z_]{1,12}$/), json), (values) => {
        // What begins with the mask cannot be told from it, and is refused when it is sent.
        fc.pre(!JSON.stringify(values).includes('"****'));
        const params = merged({}, values);
        assert.deepEqual(unmasked(maskedParams(params), params, "litellm_params"), params);
      }),
    );
  });

  it("are replaced where something else comes back, and refused where a mask has nothing behind it", () => {
    const current = { headers: { a: "secret-number-one-0001", b: "secret-number-two-0002" } };
    assert.deepEqual(unmasked({ headers: { a: "****0001", b: "new" } }, current, "p"), {
      headers: { a: "secret-number-one-0001", b: "new" },
    });
    for (const sent of ["****0002", "****", "****0001-and-more"]) {
      assert.throws(() => unmasked({ headers: { a: sent } }, current, "p"), { code: "invalid_request" });
      assert.throws(
        () => unmasked({ headers: [sent] }, {}, "p"),
        /`p\.headers\[0\]` is what is shown in a secret's place/,
      );
    }
  });
});
