import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type SpendRecord as SpendRecordMessage, SpendRecordSchema } from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import type { SpendRecord } from "../../src/keys/authority.ts";
import { SpendRecordEncoder } from "../../src/keys/spend-record-encoder.ts";

/** What the KeyService reads of a record. */
export function messageOf(record: SpendRecord): SpendRecordMessage {
  return fromBinary(SpendRecordSchema, new BinaryReader(new SpendRecordEncoder().encode(record)).bytes());
}
