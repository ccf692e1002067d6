import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { SpendRecordSchema, SpendStatus as SpendStatusMessage } from "../../src/gen/tollgate/keys/v1/keys_pb.ts";
import type { SpendRecord } from "../../src/keys/authority.ts";
import { SpendRecordEncoder } from "../../src/keys/spend-record-encoder.ts";
import { sampleOpen, sampleSettled } from "./samples.ts";
import { messageOf } from "./spend-record-message.ts";

/** No two fields have the same value, and none has what a message has without it. */
const full: SpendRecord = {
  ...{ callId: "call", attempt: 2, keyId: "key", leaseId: "lease", reserved: 3n, cost: 2n ** 40n, status: "cancelled" },
  ...{ usageEstimated: true, modelGroup: "group", model: "m".repeat(300), provider: "provider", deploymentId: "ü€😀" },
  ...{ inputTokens: 130, outputTokens: 2 ** 33, cacheReadInputTokens: 5, cacheWriteInputTokens: 6 },
  ...{ reasoningOutputTokens: 7, startedAtMs: 1_800_000_000_123.9, endedAtMs: 1_800_000_001_000 },
  ...{ firstOutputAtMs: 1_800_000_000_456, priceVersion: "v9", endUser: "user", tags: ["a", "", "b"] },
  ...{ providerResponseId: "response", traceId: "trace", operation: "chat", budgetIds: ["one", "two"], cacheHit: true },
};

describe("A spend record's encoder", () => {
  it("writes each field as the message has it", () => {
    const expected = create(SpendRecordSchema, {
      ...{ callId: "call", attempt: 2, keyId: "key", leaseId: "lease", reservedNanos: 3n, costNanos: 2n ** 40n },
      ...{ status: SpendStatusMessage.CANCELLED, usageEstimated: true, modelGroup: "group", model: "m".repeat(300) },
      ...{ provider: "provider", deploymentId: "ü€😀", inputTokens: 130n, outputTokens: 2n ** 33n },
      ...{ cacheReadInputTokens: 5n, cacheWriteInputTokens: 6n, reasoningOutputTokens: 7n },
      ...{ startTime: timestampFromMs(1_800_000_000_123), endTime: timestampFromMs(1_800_000_001_000) },
      ...{ firstOutputTime: timestampFromMs(1_800_000_000_456), priceVersion: "v9", endUser: "user" },
      ...{ tags: ["a", "", "b"], providerResponseId: "response", traceId: "trace", operation: "chat" },
      ...{ budgetIds: ["one", "two"], cacheHit: true },
    });
    assert.deepEqual(messageOf(full), expected);
    const message = toBinary(SpendRecordSchema, expected);
    assert.deepEqual(new SpendRecordEncoder().encode(full), new BinaryWriter().bytes(message).finish());
  });

  it("knows all fields that the message has", () => {
    const written = messageOf(full);
    for (const { localName } of SpendRecordSchema.fields) {
      const value: unknown = written[localName as keyof typeof written];
      assert.ok(Array.isArray(value) ? value.length > 0 : value, localName);
    }
  });

  it("leaves out what is empty", () => {
    const empty = { ...sampleSettled(sampleOpen()), firstOutputAtMs: undefined };
    const strings = { callId: "", keyId: "", modelGroup: "", model: "", provider: "", deploymentId: "" };
    const others = { priceVersion: "", providerResponseId: "", tags: [], inputTokens: 0, outputTokens: 0 };
    const nothing: SpendRecord = { ...empty, ...strings, ...others, attempt: 0, reserved: 0n, cost: 0n };
    const rest = { operation: "chat", status: SpendStatusMessage.SUCCESS };
    const times = { startTime: timestampFromMs(1_800_000_000_000), endTime: timestampFromMs(1_800_000_001_000) };
    assert.deepEqual(messageOf(nothing), create(SpendRecordSchema, { ...times, ...rest }));
  });

  it("writes text that is no Unicode as the character that stands for such", () => {
    assert.equal(messageOf({ ...full, endUser: "\u0000 \ud800" }).endUser, "\u0000 \ufffd");
  });

  it("throws at a number that the message cannot hold", () => {
    for (const wrong of [
      { inputTokens: Number.NaN },
      { attempt: 2 ** 31 },
      { cost: 2n ** 63n },
      { endedAtMs: Number.NaN },
    ])
      assert.throws(() => new SpendRecordEncoder().encode({ ...full, ...wrong }), JSON.stringify(Object.keys(wrong)));
  });
});
