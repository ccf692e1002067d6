/** grpc.reflection v1 and v1alpha, so that grpcurl and its like need no .proto files. */

import { readFile } from "node:fs/promises";
import { createFileRegistry, type DescFile, type FileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import * as v1 from "../gen/grpc/reflection/v1/reflection_pb.ts";
import * as v1alpha from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";

/** Every file of ours with its comments, as `buf build` wrote it. */
const descriptorSet = new URL("../gen/protos.binpb", import.meta.url);

/** What no service mentions and clients still need: without it they cannot print error details. */
const errorDetails = "google/rpc/error_details.proto";

type Request = v1.ServerReflectionRequest | v1alpha.ServerReflectionRequest;

type Answer =
  | { case: "listServicesResponse"; value: { service: { name: string }[] } }
  | { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: "allExtensionNumbersResponse"; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };

/** Adds both versions of server reflection to a router. Only the named services, and what they are made of, can be seen. */
export function reflectionRoutes(router: ConnectRouter, services: readonly string[]): void {
  let loading: Promise<Catalog> | undefined;
  const catalog = () => {
    loading ??= readFile(descriptorSet).then((bytes) => new Catalog(bytes, services));
    return loading;
  };
  router.service(v1.ServerReflection, { serverReflectionInfo: (requests) => reflect(catalog, requests) });
  router.service(v1alpha.ServerReflection, { serverReflectionInfo: (requests) => reflect(catalog, requests) });
}

async function* reflect<R extends Request>(catalog: () => Promise<Catalog>, requests: AsyncIterable<R>) {
  const sent = new Set<DescFile>();
  for await (const request of requests) {
    const messageResponse = (await catalog()).answer(request.messageRequest, sent);
    yield { validHost: request.host, originalRequest: request, messageResponse };
  }
}

/** What can be seen of a descriptor set from some of its services. */
class Catalog {
  readonly #services: string[];
  readonly #registry: FileRegistry;
  readonly #files = new Map<string, DescFile>();
  /** Full names of everything that has one, and where it is declared. */
  readonly #symbols = new Map<string, DescFile>();

  constructor(bytes: Uint8Array, services: readonly string[]) {
    this.#services = [...services].sort();
    this.#registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
    for (const name of services) this.#add(this.#registry.getService(name)?.file);
    this.#add(this.#registry.getFile(errorDetails));
  }

  /** @param sent the files this stream has had before, which need not be sent again. */
  answer(request: Request["messageRequest"], sent: Set<DescFile>): Answer {
    switch (request.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: this.#services.map((name) => ({ name })) } };
      case "fileByFilename":
        return this.#closure(this.#files.get(request.value), request.value, sent);
      case "fileContainingSymbol":
        return this.#closure(this.#symbols.get(request.value), request.value, sent);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = request.value;
        const found = this.#extensionsOf(containingType).find((extension) => extension.number === extensionNumber);
        return this.#closure(found?.file, `extension ${extensionNumber} of ${containingType}`, sent);
      }
      case "allExtensionNumbersOfType": {
        const baseTypeName = request.value;
        if (!this.#symbols.has(baseTypeName)) return notFound(baseTypeName);
        const extensionNumber = this.#extensionsOf(baseTypeName).map((extension) => extension.number);
        return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } };
      }
      default:
        return { case: "errorResponse", value: { errorCode: Code.InvalidArgument, errorMessage: "empty request" } };
    }
  }

  #add(file: DescFile | undefined): void {
    if (file === undefined || this.#files.has(file.proto.name)) return;
    this.#files.set(file.proto.name, file);
    for (const type of nestedTypes(file)) {
      this.#symbols.set(type.typeName, file);
      const members =
        type.kind === "message" ? [...type.fields, ...type.oneofs] : type.kind === "service" ? type.methods : [];
      for (const member of members) this.#symbols.set(`${type.typeName}.${member.name}`, file);
      if (type.kind !== "enum") continue;
      // An enum's values are named beside it, not inside it.
      const scope = type.typeName.slice(0, -type.name.length);
      for (const value of type.values) this.#symbols.set(`${scope}${value.name}`, file);
    }
    for (const dependency of file.dependencies) this.#add(dependency);
  }

  #extensionsOf(typeName: string) {
    return [...this.#files.values()].flatMap((file) =>
      [...nestedTypes(file)]
        .filter((type) => type.kind === "extension")
        .filter((e) => e.extendee.typeName === typeName),
    );
  }

  /** A file and all it imports. The file itself is sent even if the stream has had it: something was asked for. */
  #closure(file: DescFile | undefined, asked: string, sent: Set<DescFile>): Answer {
    if (file === undefined) return notFound(asked);
    sent.delete(file);
    const fileDescriptorProto: Uint8Array[] = [];
    const send = (next: DescFile): void => {
      if (sent.has(next)) return;
      sent.add(next);
      fileDescriptorProto.push(toBinary(FileDescriptorProtoSchema, next.proto));
      next.dependencies.forEach(send);
    };
    send(file);
    return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
  }
}

function notFound(asked: string): Answer {
  return { case: "errorResponse", value: { errorCode: Code.NotFound, errorMessage: `not found: ${asked}` } };
}
