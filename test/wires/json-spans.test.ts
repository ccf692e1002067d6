import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { rewriteMembers, scanObject } from "../../src/wires/json-spans.ts";

function rewrite(text: string, changes: Record<string, string | undefined>): string {
  const bytes = Buffer.from(text);
  return rewriteMembers({ bytes, spans: scanObject(bytes).spans }, new Map(Object.entries(changes))).toString();
}

function values(text: string): Record<string, string> {
  const bytes = Buffer.from(text);
  const found: Record<string, string> = {};
  for (const [key, span] of scanObject(bytes).spans) found[key] = bytes.toString("utf8", span.start, span.end);
  return found;
}

test("the spans of top-level values are found past nesting, escapes and white space", () => {
  const text = ' { "a" : 1 , "b":"x\\"},{\\\\" ,\n"c":{"a":[1,{"b":"]"}]}, "d\\u0065":null,"ü":[ ]\t} ';
  assert.deepEqual(values(text), {
    a: "1",
    b: '"x\\"},{\\\\"',
    c: '{"a":[1,{"b":"]"}]}',
    de: "null",
    ü: "[ ]",
  });
});

test("where all is as it shall be the bytes are given back as they are, not a copy", () => {
  const bytes = Buffer.from('{"model":"gpt-4o","stream":true,"note":"é"}');
  const body = { bytes, spans: scanObject(bytes).spans };
  const same = new Map([
    ["model", '"gpt-4o"'],
    ["tags", undefined],
    ["note", '"é"'],
  ]);
  assert.equal(rewriteMembers(body, same), bytes);
  assert.notEqual(rewriteMembers(body, new Map([["model", '"gpt-4O"']])), bytes);
  assert.equal(rewrite('{"note":"é"}', { note: '"Ã©"' }), '{"note":"Ã©"}');
  assert.equal(rewrite('{"note":"é"}', { note: undefined }), "{}");
});

test("how deep an object is nested is told, whatever its strings look like", () => {
  const depths = [
    "{}",
    '{"a":"[[[","b":1}',
    '{"a":[1,{"b":"}"}],"c":[]}',
    `{"a":1,"b":${"[".repeat(500)}${"]".repeat(500)}}`,
  ].map((text) => scanObject(Buffer.from(text)).depth);
  assert.deepEqual(depths, [1, 1, 3, 501]);
});

test("of a repeated key the last counts, and it is reported, also when it is spelled with escapes", () => {
  const { spans, repeated } = scanObject(Buffer.from('{"a":1,"b":2,"\\u0061":3}'));
  assert.deepEqual([...repeated], ["a"]);
  assert.deepEqual([...spans.keys()], ["b", "a"]);
  assert.deepEqual(spans.get("a"), { start: 22, end: 23 });
});

test("members are replaced, removed and added, and nothing else changes", () => {
  assert.equal(rewrite('{ "a" : 1 ,"b":2 }', { a: "9" }), '{ "a" : 9 ,"b":2 }');
  assert.equal(rewrite('{"a":1,"b":2,"c":3}', { b: undefined }), '{"a":1,"c":3}');
  assert.equal(rewrite('{"a":1, "b\\"c":2}', { a: undefined }), '{"b\\"c":2}');
  assert.equal(rewrite('{"a":1, "b":2 }', { b: undefined }), '{"a":1 }');
  assert.equal(rewrite('{"a":1,"b":2,"c":3}', { a: undefined, b: undefined, c: "[]" }), '{"c":[]}');
  assert.equal(rewrite('{"a":1,"b":2,"c":3}', { b: undefined, c: undefined, d: "4" }), '{"a":1,"d":4}');
  assert.equal(rewrite('{"a":1}', { a: undefined, x: undefined }), "{}");
  assert.equal(rewrite('{"a":1}', { a: undefined, x: '"y"' }), '{"x":"y"}');
  assert.equal(rewrite("{ }", { x: "1" }), '{"x":1 }');
  assert.equal(rewrite("{}", {}), "{}");
});

const key = fc.constantFrom("model", "tags", "n", 'weird \\ " key', "ü", "__proto__x", "");
const member = fc.tuple(key, fc.jsonValue());

test("rewriting agrees with rebuilding, for any object", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(member, { selector: ([name]) => name }),
      fc.dictionary(fc.constantFrom("model", "tags", "n", "new"), fc.option(fc.jsonValue(), { nil: undefined })),
      fc.constantFrom(undefined, 1, "\t"),
      (members, changes, indent) => {
        const before = Object.fromEntries(members);
        const expected: Record<string, unknown> = { ...before };
        const texts: Record<string, string | undefined> = {};
        for (const [name, value] of Object.entries(changes)) {
          texts[name] = value === undefined ? undefined : JSON.stringify(value);
          if (value === undefined) delete expected[name];
          else expected[name] = JSON.parse(JSON.stringify(value));
        }
        const after = JSON.parse(rewrite(JSON.stringify(before, null, indent), texts));
        assert.deepEqual(after, JSON.parse(JSON.stringify(expected)));
      },
    ),
    { numRuns: 500 },
  );
});

test("garbage neither throws nor hangs", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      scanObject(Buffer.from(noise));
      scanObject(Buffer.concat([Buffer.from('{"'), Buffer.from(noise)]));
    }),
    { numRuns: 2000 },
  );
});

test("a hundred thousand levels of nesting are only bytes", () => {
  const deep = `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)},"b":1}`;
  assert.deepEqual(scanObject(Buffer.from(deep)).spans.get("a"), { start: 5, end: 200_005 });
});
