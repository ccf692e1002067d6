import { type DescMessage, type JsonObject, type MessageShape, toJson } from "@bufbuild/protobuf";

/** A message as scripts get it: protobuf's JSON with the names of the .proto files, every field of a plain type present. */
export function jsonOf<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc> | undefined): JsonObject {
  if (message === undefined) throw new Error(`The KeyService sent no ${schema.name}.`);
  return toJson(schema, message, { useProtoFieldName: true, alwaysEmitImplicit: true }) as JsonObject;
}
