import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { systemClock } from "../../src/clock.ts";
import { ProviderHttp } from "../../src/providers/http.ts";

test("no call waits for another's connection, however many are under way", async () => {
  const callCount = 1_000;
  const held: ServerResponse[] = [];
  const server = createServer((_req, res) => {
    held.push(res);
    // None is answered before all are there.
    if (held.length === callCount) for (const each of held) each.end("{}");
  });
  server.listen(0, "127.0.0.1", 1_024);
  await once(server, "listening");
  const http = new ProviderHttp({ clock: systemClock });
  const { port } = server.address() as AddressInfo;
  try {
    const call = {
      url: new URL(`http://127.0.0.1:${port}/`),
      headers: {},
      body: Buffer.from("{}"),
      signal: new AbortController().signal,
      headTimeoutMs: 20_000,
      idleTimeoutMs: 20_000,
    };
    const answers = await Promise.all(Array.from({ length: callCount }, () => http.post(call)));
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  } finally {
    await http.close();
    server.close();
  }
});
