import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { variables } from "../sidecar/settings.ts";
import { tracingVariables } from "../sidecar/telemetry-export.ts";
import { callbackVariables } from "../src/config/callbacks.ts";
import { keyBounds, keyDefaults } from "../src/config/key-rules.ts";
import { providerRows } from "../src/config/provider-rows.ts";
import { routingStrategies } from "../src/config/schema-routing.ts";
import { errorTable, RpcCode } from "../src/errors.ts";
import { callRoutes } from "../src/front/call-routes.ts";
import { callTypes } from "../src/keyservice/http-spend.ts";
import { operationModes } from "../src/routing/operations.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

/** gRPC's own spelling of a status: resourceExhausted -> RESOURCE_EXHAUSTED. */
const rpcNames = new Map(
  Object.entries(RpcCode).map(([name, code]) => [
    code as number,
    name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase(),
  ]),
);

function errorRows(): string[] {
  return Object.entries(errorTable).map(
    ([code, { httpStatus, rpcCode, retry, meaning }]) =>
      `| \`${code}\` | ${httpStatus} | ${rpcNames.get(rpcCode)} | ${retry ? "yes" : "no"} | ${meaning} |`,
  );
}

function variableRows(of: Readonly<Record<string, { default: string; meaning: string }>>): string[] {
  return Object.entries(of).map(
    ([name, { default: value, meaning }]) =>
      `| \`${name}\` | ${/[ ]/.test(value) ? value : value && `\`${value}\``} | ${meaning} |`,
  );
}

test("the README's error table is the code's, row by row", () => {
  assert.deepEqual(rowsAfter("| code | HTTP |"), errorRows());
});

test("the README's configuration table is the code's, row by row", () => {
  assert.deepEqual(rowsAfter("| variable | default | meaning |"), variableRows(variables));
});

test("the README's table of what traces and Langfuse follow is the code's, and has all that the code reads", () => {
  assert.deepEqual(rowsAfter("| variable | default | traces and Langfuse |"), variableRows(tracingVariables));
  const source = readFileSync(new URL("../src/telemetry/tracing.ts", import.meta.url), "utf8");
  const read = new Set([...source.matchAll(/env\.((?:OTEL)_\w+)/g)].map(([, name = ""]) => name));
  const named =
    Object.values(tracingVariables)
      .map(({ meaning }) => meaning)
      .join() + Object.keys(tracingVariables).join();
  assert.ok(read.size > 5);
  for (const name of [...read, ...callbackVariables]) assert.ok(named.includes(name), name);
});

test("the README's table of what keys may have is the configuration's", () => {
  const rows = rowsAfter("| key | default | bound |").map((row) => row.split(" | ").slice(0, 3).join(" | "));
  assert.deepEqual(
    rows,
    Object.keys(keyDefaults.shape).map((name) => `| \`${name}\` | yes | ${name in keyBounds.shape ? "yes" : "no"}`),
  );
});

test("the README's table of strategies has all that the configuration takes", () => {
  const names = rowsAfter("| strategy | chooses |").map((row) => row.split("`")[1]);
  assert.deepEqual(names, routingStrategies);
});

test("the README's table of providers is the code's, row by row", () => {
  const rows = [...providerRows].map(([name, { wire, apiBase, keyVariables }]) => {
    const address = apiBase === undefined ? "" : `\`${apiBase.replace("https://", "")}\``;
    return `| \`${name}/\` | ${wire} | ${address} | ${keyVariables.map((variable) => `\`${variable}\``).join(", ")} |`;
  });
  assert.deepEqual(rowsAfter("| prefix | wire |"), rows);
});

test("the README's table of operations is what the doors, the routing and the spend log call them", async () => {
  const chat = new Set(["/v1/chat/completions", "/v1/responses", "/v1/messages"]);
  const routes = [...new Set(callRoutes.map(([, { route }]) => route))].filter((route) => !chat.has(route));
  const json = Buffer.from(JSON.stringify({ model: "m", input: "x", prompt: "x", query: "x" }));
  const parts = ['name="model"\r\n\r\nm', 'name="file"; filename="a"\r\n\r\nx'];
  const head = "--b\r\ncontent-disposition: form-data; ";
  const form = Buffer.from(`${parts.map((part) => `${head}${part}\r\n`).join("")}--b--\r\n`);
  const rows: string[] = [];
  for (const route of routes) {
    const wanted = callRoutes.find(([path]) => path === route)?.[1];
    const body = wanted?.takes === "form" ? form : json;
    const request = await wanted?.decode(body, "multipart/form-data; boundary=b");
    const operation = request === undefined || request instanceof Error ? "chat" : request.operation;
    rows.push(`| \`${route}\` | \`${operationModes[operation]}\` | \`${callTypes[operation]}\` |`);
  }
  assert.deepEqual(rowsAfter("| path | `model_info.mode` |"), rows);
});

/** The rows of the table with this head. */
function rowsAfter(head: string): string[] {
  const lines = readme.split("\n");
  const start = lines.findIndex((line) => line.startsWith(head)) + 2;
  const end = lines.findIndex((line, index) => index >= start && !line.startsWith("|"));
  return lines.slice(start, end);
}
