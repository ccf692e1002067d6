import type { DescField } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { SpendRecordSchema, SpendStatus as SpendStatusMessage } from "../gen/tollgate/keys/v1/keys_pb.ts";
import type { SpendRecord, SpendStatus } from "./authority.ts";

const statuses: Readonly<Record<SpendStatus, SpendStatusMessage>> = {
  success: SpendStatusMessage.SUCCESS,
  failure: SpendStatusMessage.FAILURE,
  cancelled: SpendStatusMessage.CANCELLED,
  unconfirmed: SpendStatusMessage.UNCONFIRMED,
};

/** What stands before a field's value. */
const tagOf = ({ number }: DescField, type: WireType): number => (number << 3) | type;
const { field } = SpendRecordSchema;
const callId = tagOf(field.callId, WireType.LengthDelimited);
const attempt = tagOf(field.attempt, WireType.Varint);
const keyId = tagOf(field.keyId, WireType.LengthDelimited);
const leaseId = tagOf(field.leaseId, WireType.LengthDelimited);
const reservedNanos = tagOf(field.reservedNanos, WireType.Varint);
const costNanos = tagOf(field.costNanos, WireType.Varint);
const status = tagOf(field.status, WireType.Varint);
const usageEstimated = tagOf(field.usageEstimated, WireType.Varint);
const modelGroup = tagOf(field.modelGroup, WireType.LengthDelimited);
const model = tagOf(field.model, WireType.LengthDelimited);
const provider = tagOf(field.provider, WireType.LengthDelimited);
const deploymentId = tagOf(field.deploymentId, WireType.LengthDelimited);
const inputTokens = tagOf(field.inputTokens, WireType.Varint);
const outputTokens = tagOf(field.outputTokens, WireType.Varint);
const cacheReadInputTokens = tagOf(field.cacheReadInputTokens, WireType.Varint);
const cacheWriteInputTokens = tagOf(field.cacheWriteInputTokens, WireType.Varint);
const reasoningOutputTokens = tagOf(field.reasoningOutputTokens, WireType.Varint);
const startTime = tagOf(field.startTime, WireType.LengthDelimited);
const endTime = tagOf(field.endTime, WireType.LengthDelimited);
const firstOutputTime = tagOf(field.firstOutputTime, WireType.LengthDelimited);
const priceVersion = tagOf(field.priceVersion, WireType.LengthDelimited);
const endUser = tagOf(field.endUser, WireType.LengthDelimited);
const tags = tagOf(field.tags, WireType.LengthDelimited);
const providerResponseId = tagOf(field.providerResponseId, WireType.LengthDelimited);
const traceId = tagOf(field.traceId, WireType.LengthDelimited);
const operation = tagOf(field.operation, WireType.LengthDelimited);
const budgetIds = tagOf(field.budgetIds, WireType.LengthDelimited);
const cacheHit = tagOf(field.cacheHit, WireType.Varint);
const seconds = tagOf(TimestampSchema.field.seconds, WireType.Varint);
const nanos = tagOf(TimestampSchema.field.nanos, WireType.Varint);

/**
 * Writes spend records as the KeyService takes them. There is one for each call, and by a message's description, as all else is written, one
 * takes four times as long: 13 us in place of 3.
 */
export class SpendRecordEncoder {
  /** Keeps its memory from one to the next. */
  readonly #writer = new BinaryWriter();

  /**
   * @returns the length of its message, and the message.
   * @throws if a number of it is none that the message can hold.
   */
  encode(record: SpendRecord): Uint8Array {
    const writer = this.#writer.fork();
    this.#string(callId, record.callId);
    if (record.attempt !== 0) writer.uint32(attempt).int32(record.attempt);
    this.#string(keyId, record.keyId);
    this.#string(leaseId, record.leaseId);
    this.#int64(reservedNanos, record.reserved);
    this.#int64(costNanos, record.cost);
    writer.uint32(status).int32(statuses[record.status]);
    this.#bool(usageEstimated, record.usageEstimated);
    this.#string(modelGroup, record.modelGroup);
    this.#string(model, record.model);
    this.#string(provider, record.provider);
    this.#string(deploymentId, record.deploymentId);
    this.#int64(inputTokens, record.inputTokens);
    this.#int64(outputTokens, record.outputTokens);
    this.#int64(cacheReadInputTokens, record.cacheReadInputTokens);
    this.#int64(cacheWriteInputTokens, record.cacheWriteInputTokens);
    this.#int64(reasoningOutputTokens, record.reasoningOutputTokens);
    this.#time(startTime, record.startedAtMs);
    this.#time(endTime, record.endedAtMs);
    if (record.firstOutputAtMs !== undefined) this.#time(firstOutputTime, record.firstOutputAtMs);
    this.#string(priceVersion, record.priceVersion);
    this.#string(endUser, record.endUser);
    for (const tag of record.tags) writer.uint32(tags).string(tag);
    this.#string(providerResponseId, record.providerResponseId);
    this.#string(traceId, record.traceId);
    this.#string(operation, record.operation);
    for (const budgetId of record.budgetIds) writer.uint32(budgetIds).string(budgetId);
    this.#bool(cacheHit, record.cacheHit);
    return writer.join().finish();
  }

  #string(tag: number, value: string): void {
    if (value !== "") this.#writer.uint32(tag).string(value);
  }

  #bool(tag: number, value: boolean): void {
    if (value) this.#writer.uint32(tag).bool(value);
  }

  #int64(tag: number, value: number | bigint): void {
    if (Number(value) !== 0) this.#writer.uint32(tag).int64(value);
  }

  #time(tag: number, unixMs: number): void {
    const wholeMs = Math.trunc(unixMs);
    const wholeSeconds = Math.floor(wholeMs / 1_000);
    const writer = this.#writer.uint32(tag).fork();
    this.#int64(seconds, wholeSeconds);
    const rest = (wholeMs - wholeSeconds * 1_000) * 1_000_000;
    if (rest !== 0) writer.uint32(nanos).int32(rest);
    writer.join();
  }
}
