import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { boundaryOf, type FormPart, rewriteForm, scanForm } from "../../src/wires/multipart.ts";

/** A form as another implementation writes it. */
async function written(fields: readonly (readonly [string, string | Buffer])[]) {
  const form = new FormData();
  for (const [name, value] of fields) {
    if (typeof value === "string") form.append(name, value);
    else form.append(name, new Blob([new Uint8Array(value)]), 'a "b".wav');
  }
  const response = new Response(form);
  const type = response.headers.get("content-type") ?? "";
  return { bytes: Buffer.from(await response.arrayBuffer()), type, boundary: boundaryOf(type) ?? assert.fail(type) };
}

const told = (bytes: Buffer, parts: readonly FormPart[] | undefined) =>
  parts?.map(({ name, isFile, content }) => [name, isFile, bytes.toString("latin1", content.start, content.end)]);

const names = fc.stringMatching(/^[a-z_]{1,12}(\[\])?$/);
const texts = fc.string({ maxLength: 40 }).map((text) => text.replace(/[\r\n]/g, " "));
const files = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
const fields = fc.array(fc.tuple(names, fc.oneof(texts, files)), { maxLength: 6 });

test("a form is read as it was written, whatever is in its files", async () => {
  await fc.assert(
    fc.asyncProperty(fields, async (given) => {
      const { bytes, boundary } = await written(given);
      assert.deepEqual(
        told(bytes, scanForm(bytes, boundary)),
        given.map(([name, value]) => [
          name,
          typeof value !== "string",
          Buffer.from(value as string).toString("latin1"),
        ]),
      );
    }),
    { numRuns: 100 },
  );
});

test("what is rewritten is read by others as it was, but for what was changed", async () => {
  await fc.assert(
    fc.asyncProperty(fields, texts, async (given, model) => {
      const { bytes, boundary, type } = await written([...given, ["model", "ours"], ["tags", "x"]]);
      const parts = scanForm(bytes, boundary) ?? assert.fail("unread");
      const changes = new Map([
        ["model", model],
        ["tags", undefined],
      ]);
      const changed = rewriteForm({ bytes, boundary, parts }, changes);
      const read = await new Response(new Uint8Array(changed), { headers: { "content-type": type } }).formData();
      assert.deepEqual([read.getAll("model"), read.has("tags")], [[model], false]);
      for (const [name, value] of given) {
        const all = await Promise.all(
          read
            .getAll(name)
            .map(async (each) =>
              typeof each === "string" ? Buffer.from(each) : Buffer.from(await each.arrayBuffer()),
            ),
        );
        assert.ok(
          all.some((each) => each.equals(Buffer.from(value as string))),
          name,
        );
      }
    }),
    { numRuns: 100 },
  );
});

test("a form that is cut anywhere is none", async () => {
  const { bytes, boundary } = await written([
    ["model", "m"],
    ["file", Buffer.from([13, 10, 45, 45, 0])],
  ]);
  const end = bytes.lastIndexOf("--");
  for (let at = 0; at < end; at++) assert.equal(scanForm(bytes.subarray(0, at), boundary), undefined, String(at));
});

test("parts whose name two readers may read differently make a form unreadable", () => {
  const form = (head: string) => Buffer.from(`--b\r\n${head}\r\n\r\nx\r\n--b--\r\n`);
  const read = (head: string) => scanForm(form(head), "b")?.map(({ name }) => name);
  assert.deepEqual(read('Content-Disposition: form-data; name="a"'), ["a"]);
  assert.deepEqual(read('Content-Type: x\r\ncontent-disposition:form-data;name=a; filename="; name=c"'), ["a"]);
  assert.equal(read('content-disposition: form-data; name="a"; name="b"'), undefined);
  assert.equal(read("content-disposition: form-data"), undefined);
  assert.equal(read("content-type: text/plain"), undefined);
});

test("the boundary is found in whatever way it is written", () => {
  assert.equal(boundaryOf("multipart/form-data; boundary=abc"), "abc");
  assert.equal(boundaryOf('Multipart/Form-Data; charset=utf-8; boundary="a b"'), "a b");
  for (const none of ["application/json", "multipart/form-data", "multipart/mixed; boundary=a", ""]) {
    assert.equal(boundaryOf(none), undefined, none);
  }
});

test("garbage neither throws nor takes long", () => {
  const separators = fc.constantFrom(
    "--b",
    "--b--",
    "\r\n",
    "\r\n--b\r\n",
    ": ",
    "content-disposition: form-data; name=",
    '"',
    ";",
  );
  const garbage = fc.array(fc.oneof(separators, fc.string({ maxLength: 8 })), { maxLength: 60 });
  fc.assert(
    fc.property(garbage, (pieces) => {
      const bytes = Buffer.from(pieces.join(""));
      for (const { content, whole } of scanForm(bytes, "b") ?? []) {
        assert.ok(
          0 <= whole.start && whole.start < content.start && content.start <= content.end && content.end <= whole.end,
        );
      }
    }),
    { numRuns: 2_000 },
  );
  const startedMs = performance.now();
  scanForm(Buffer.from("--b".repeat(3_000_000)), "b");
  scanForm(Buffer.from(`--b\r\n${"content-disposition: form-data; name=a;".repeat(200_000)}`), "b");
  assert.ok(performance.now() - startedMs < 5_000);
});
