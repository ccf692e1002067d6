import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as v1 from "../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import * as v1alpha from "../../src/gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { CompletionService } from "../../src/gen/tollgate/completion/v1/completion_pb.ts";
import { openPort } from "./port.ts";

const run = promisify(execFile);
const buf = fileURLToPath(new URL("../../node_modules/.bin/buf", import.meta.url));
const name = CompletionService.typeName;
const listed = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  name,
];

type Ask = Extract<v1.ServerReflectionRequest["messageRequest"], { case: string }>;

async function open(t: TestContext) {
  const { url } = await openPort(t, {
    services: [CompletionService],
    routes: (router) => router.service(CompletionService, { listModels: () => ({ models: [{ id: "m" }] }) }),
  });
  return url;
}

/** One stream, one answer to each question. */
async function ask(url: string, questions: Ask[]) {
  const client = createClient(v1.ServerReflection, createGrpcTransport({ baseUrl: url }));
  const answers = [];
  for await (const { messageResponse } of client.serverReflectionInfo(
    (async function* () {
      for (const messageRequest of questions) yield { messageRequest };
    })(),
  )) {
    answers.push(messageResponse);
  }
  return answers;
}

async function filesOf(url: string, question: Ask): Promise<string[]> {
  const [answer] = await ask(url, [question]);
  assert.equal(answer?.case, "fileDescriptorResponse");
  return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
}

test("both versions list the services given, and nothing else", async (t) => {
  const url = await open(t);
  for (const service of [v1.ServerReflection, v1alpha.ServerReflection]) {
    const client = createClient(service, createGrpcTransport({ baseUrl: url }));
    const requests = (async function* () {
      yield { host: "h", messageRequest: { case: "listServices" as const, value: "" } };
    })();
    const names = [];
    for await (const { messageResponse, originalRequest, validHost } of client.serverReflectionInfo(requests)) {
      assert.equal(validHost, "h");
      assert.equal(originalRequest?.messageRequest.case, "listServices");
      assert.equal(messageResponse.case, "listServicesResponse");
      names.push(...messageResponse.value.service.map((entry) => entry.name));
    }
    assert.deepEqual(names, listed);
  }
});

test("a service comes with all it imports, and with its comments", async (t) => {
  const url = await open(t);
  const [answer] = await ask(url, [{ case: "fileContainingSymbol", value: name }]);
  assert.equal(answer?.case, "fileDescriptorResponse");
  const file = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes)).reverse();
  assert.ok(createFileRegistry({ ...emptySet(), file }).getService(name));
  const comments = file
    .at(-1)
    ?.sourceCodeInfo?.location.map((location) => location.leadingComments)
    .join("");
  assert.match(comments ?? "", /CompletionService answers chat completions/);
});

function emptySet() {
  return fromBinary(FileDescriptorSetSchema, new Uint8Array());
}

test("messages, fields, methods, enums and their values are found by name", async (t) => {
  const url = await open(t);
  const home = "tollgate/completion/v1/completion.proto";
  for (const symbol of ["Chat", "Chat.model", "Part.content", "CompletionService.Complete", "Role", "ROLE_USER"]) {
    const files = await filesOf(url, { case: "fileContainingSymbol", value: `tollgate.completion.v1.${symbol}` });
    assert.equal(files[0], home, symbol);
  }
  assert.equal((await filesOf(url, { case: "fileByFilename", value: home }))[0], home);
});

test("error details can be decoded, administration cannot be seen", async (t) => {
  const url = await open(t);
  const files = await filesOf(url, { case: "fileContainingSymbol", value: "google.rpc.ErrorInfo" });
  assert.deepEqual(files, ["google/rpc/error_details.proto", "google/protobuf/duration.proto"]);
  const [answer] = await ask(url, [{ case: "fileContainingSymbol", value: "tollgate.admin.v1.KeyAdminService" }]);
  assert.equal(answer?.case, "errorResponse");
  assert.equal(answer.value.errorCode, 5);
});

test("a stream is not sent a dependency twice, but always what it asks for", async (t) => {
  const url = await open(t);
  const symbol: Ask = { case: "fileContainingSymbol", value: name };
  const counts = (await ask(url, [symbol, symbol])).map((answer) =>
    answer.case === "fileDescriptorResponse" ? answer.value.fileDescriptorProto.length : 0,
  );
  assert.ok((counts[0] ?? 0) > 3);
  assert.equal(counts[1], 1);
});

test("extensions are found by number and listed", async (t) => {
  const url = await open(t);
  const containingType = "google.protobuf.FieldOptions";
  const [numbers, unknown, none] = await ask(url, [
    { case: "allExtensionNumbersOfType", value: containingType },
    { case: "allExtensionNumbersOfType", value: "no.such.Type" },
    {
      case: "fileContainingExtension",
      value: { $typeName: "grpc.reflection.v1.ExtensionRequest", containingType, extensionNumber: 1 },
    },
  ]);
  assert.equal(numbers?.case, "allExtensionNumbersResponse");
  assert.equal(numbers.value.baseTypeName, containingType);
  assert.ok(numbers.value.extensionNumber.includes(1159));
  assert.equal(unknown?.case, "errorResponse");
  assert.equal(none?.case, "errorResponse");
  const files = await filesOf(url, {
    case: "fileContainingExtension",
    value: { $typeName: "grpc.reflection.v1.ExtensionRequest", containingType, extensionNumber: 1159 },
  });
  assert.equal(files[0], "buf/validate/validate.proto");
});

for (const protocol of ["grpc-v1", "grpc-v1alpha"]) {
  test(`buf curl lists, describes and calls with nothing but reflection (${protocol})`, async (t) => {
    const url = await open(t);
    const flags = ["--http2-prior-knowledge", "--reflect-protocol", protocol];
    const curl = async (...args: string[]) => (await run(buf, ["curl", ...flags, ...args])).stdout;
    assert.deepEqual((await curl(url, "--list-services")).trim().split("\n").sort(), listed);
    assert.match(await curl(`${url}`, "--list-methods"), /tollgate\.completion\.v1\.CompletionService\/StreamComplete/);
    for (const wire of ["grpc", "grpcweb", "connect"]) {
      const answer = await curl("--protocol", wire, "-d", "{}", `${url}/${name}/ListModels`);
      assert.deepEqual(JSON.parse(answer), { models: [{ id: "m" }] });
    }
  });
}
