import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { JsonObject } from "../../src/completion.ts";
import { GatewayError } from "../../src/errors.ts";
import { decodeMessagesRequest } from "../../src/wires/anthropic-body.ts";
import { arrayOf, objectOf } from "../../src/wires/json.ts";
import { decodeChatRequest, encodeChatRequest } from "../../src/wires/openai-chat.ts";
import { parseBody } from "../../src/wires/request-body.ts";
import { decodeResponsesRequest } from "../../src/wires/responses-body.ts";

const long = (unit: string) => unit.repeat(Math.ceil(20_000 / unit.length));
const anyText = long("word ");

function bodyOf(text: string): JsonObject {
  const parsed = parseBody(Buffer.from(text));
  if (parsed instanceof GatewayError) throw parsed;
  return parsed.body;
}

/** Whether a member still stands in the bytes alone. */
const isLeft = (holder: unknown, name: string) =>
  Object.getOwnPropertyDescriptor(objectOf(holder as JsonObject) ?? {}, name)?.get !== undefined;

/** What is wrong with a body, or nothing. */
function faultOf(text: string): string | undefined {
  const parsed = parseBody(Buffer.from(text));
  return parsed instanceof GatewayError ? parsed.message : undefined;
}

test("a long text is read when it is asked for, once, and is then a member like others", () => {
  const body = bodyOf(JSON.stringify({ a: anyText, b: [anyText, { c: `${anyText}"\\\n` }], d: "short" }));
  assert.equal(isLeft(body, "a"), true);
  assert.equal(body.a, anyText);
  assert.equal(isLeft(body, "a"), false);
  assert.deepEqual(Object.keys(body), ["a", "b", "d"]);
  assert.deepEqual(arrayOf(body.b), [anyText, { c: `${anyText}"\\\n` }]);
  assert.deepEqual({ ...bodyOf(JSON.stringify({ a: anyText })) }, { a: anyText });
});

test("whatever its length and what is in it, a long text stays in the bytes at first", () => {
  for (const inside of ["word", "\\n", "\\\\", '\\"', "\\u00e9", "é", "😀", "\u007f"]) {
    for (let shift = 0; shift < 9; shift++) {
      const body = bodyOf(`{"a":"${"w".repeat(shift)}${long(`word${inside}`)}${"w".repeat(shift % 4)}"}`);
      assert.equal(isLeft(body, "a"), true, `${inside} ${shift}`);
    }
  }
});

test("whatever is in it, a body says what JSON.parse says", () => {
  const unit = fc.oneof(
    fc.string({ unit: "binary", minLength: 1 }),
    fc.constantFrom("\\", '"', "\n", "\u0000", "é", "😀", "}", ","),
  );
  const text = fc.oneof(fc.string(), unit.map(long));
  const body = fc.dictionary(
    fc.oneof(fc.string(), fc.constant("__proto__")),
    fc.oneof(text, fc.array(text), fc.jsonValue()),
  );
  fc.assert(
    fc.property(body, fc.nat(3), fc.boolean(), (value, offset, isAscii) => {
      const written = JSON.stringify(value).toWellFormed();
      const json = isAscii
        ? written.replace(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)
        : written;
      // Wherever in memory the bytes begin.
      const bytes = Buffer.from(" ".repeat(offset) + json).subarray(offset);
      const parsed = parseBody(bytes);
      assert.ok(!(parsed instanceof GatewayError));
      assert.equal(JSON.stringify(parsed.body), JSON.stringify(JSON.parse(json)));
    }),
    { numRuns: 100 },
  );
});

test("a long text that is none is refused where it breaks", () => {
  const breaks = ["\n", "\u0000", "\u001f", "\\x", "\\u12", "\\u12g4", "\\"];
  for (const broken of breaks) {
    for (let shift = 0; shift < 9; shift++) {
      const before = `{"a":"${long("word ")}${"w".repeat(shift)}`;
      for (const text of [`${before}${broken} and on","b":1}`, `${before}${broken}"}`]) {
        let message = "";
        try {
          JSON.parse(text);
        } catch (error) {
          message = String(error);
        }
        const position = /at position (\d+)/.exec(message)?.[1];
        const where = position === undefined ? "" : ` It breaks at character ${position}.`;
        assert.equal(faultOf(text), `The body is not valid JSON.${where}`, JSON.stringify(broken));
      }
    }
  }
  assert.match(String(faultOf(`{"a":"${anyText}",}`)), /not valid JSON/);
  assert.match(String(faultOf(`{"a":"${anyText}"`)), /not valid JSON/);
  assert.match(String(faultOf(`["${anyText}"]`)), /must be a JSON object/);
});

test("a name of a member may be long, and of a member given twice the last counts", () => {
  assert.deepEqual(bodyOf(`{"${anyText}":1,"a":{"${anyText}" : "${anyText}"}}`), {
    [anyText]: 1,
    a: { [anyText]: anyText },
  });
  const twice = bodyOf(`{"a":{"b":"${anyText}","b":"${long("other ")}"},"c":"${anyText}"}`);
  assert.deepEqual(twice, { a: { b: long("other ") }, c: anyText });
  assert.deepEqual(bodyOf(`{"a":"${anyText}","a":"last"}`), { a: "last" });
});

test("where bytes pass as they came, no long text is read", () => {
  const url = `data:image/png;base64,${anyText}`;
  const messages = [
    { role: "user", content: anyText },
    { role: "user", content: [{ type: "image_url", image_url: { url } }] },
  ];
  const bytes = Buffer.from(JSON.stringify({ model: "a", messages }));
  const request = decodeChatRequest(bytes);
  assert.ok(!(request instanceof GatewayError));
  const params = { leavesOut: [], lacks: new Set<string>() } as never;
  const target = { model: "b", outputTokensMax: 5, outputCapField: "max_tokens", provider: "openai", params } as const;
  const sent = encodeChatRequest(request, target);
  assert.deepEqual(JSON.parse(sent.toString()), { model: "b", messages, max_tokens: 5 });
  const [text, picture] = arrayOf(request.chat().messages).map(objectOf);
  assert.equal(isLeft(text, "content"), true);
  assert.equal(isLeft(objectOf(arrayOf(picture?.content)[0])?.image_url, "url"), true);
  assert.equal(request.pieces?.image, 1);

  const claude = decodeMessagesRequest(
    Buffer.from(JSON.stringify({ model: "a", max_tokens: 5, messages: messages.slice(0, 1) })),
    { counts: false },
  );
  const items = [{ type: "function_call_output", output: anyText }, ...messages.slice(0, 1)];
  const response = decodeResponsesRequest(Buffer.from(JSON.stringify({ model: "a", input: items })));
  assert.ok(!(claude instanceof GatewayError) && !(response instanceof GatewayError));
  assert.equal(isLeft(arrayOf(claude.raw?.value.messages)[0], "content"), true);
  const [output, input] = arrayOf(response.raw?.value.input);
  assert.deepEqual([isLeft(output, "output"), isLeft(input, "content")], [true, true]);
});
