import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { GatewayError } from "../../src/errors.ts";
import { CallLines } from "../../src/telemetry/call-lines.ts";
import { CallLog } from "../../src/telemetry/call-log.ts";

const names = ["plain", 'with "quotes"', "back\\slash\n", "grüße \u2028", ""];
const usage = {
  ...{ inputTokens: 7, outputTokens: 5, cacheReadInputTokens: 0, cacheWriteInputTokens: 0, reasoningOutputTokens: 0 },
  estimated: false,
};

function logged(name: string, failure: GatewayError | undefined, traceId = "") {
  const lines: string[] = [];
  const options = { base: { service: "tollgate", pod: "p-1" }, timestamp: () => ',"time":"now"' };
  const logger = pino(options, { write: (line: string) => void lines.push(line) });
  const log = new CallLog(logger, new CallLines(logger));
  log.attempted("openai", usage, 1_500n);
  log.end(failure, {
    facts: { callId: "c-1", keyId: "k-1", teamId: name, modelGroup: name },
    origin: {
      ...{ requestId: name, door: "openai", route: "/v1/chat/completions", tags: [] },
      ...{ sessionId: undefined, traceparent: undefined, tracestate: undefined },
    },
    ...{ traceId, model: name, stream: true, durationMs: 12.3456 },
  });
  return { lines, logger };
}

test("a call's line is as pino would have written it, whatever a caller calls things", () => {
  for (const name of names) {
    const { lines, logger } = logged(name, undefined, "0123456789abcdef0123456789abcdef");
    logger.info(
      {
        ...{ requestId: name, traceId: "0123456789abcdef0123456789abcdef", callId: "c-1", keyId: "k-1", teamId: name },
        ...{ door: "openai", route: "/v1/chat/completions", model: name, stream: true, code: "ok", durationMs: 12.3 },
        ...{ attempts: 1, provider: "openai", inputTokens: 7, outputTokens: 5, costUsd: "0.0000015" },
      },
      "call answered",
    );
    assert.equal(lines.length, 2);
    assert.deepEqual(JSON.parse(lines[0] ?? ""), JSON.parse(lines[1] ?? ""));
    assert.ok(lines[0]?.endsWith("}\n"));
    assert.equal(lines[0]?.indexOf("\n"), (lines[0]?.length ?? 0) - 1);
  }
});

test("a request that is named like a secret does not bring it into the log", () => {
  const { lines } = logged("sk-live-0123456789abcdef", undefined);
  assert.equal(JSON.parse(lines[0] ?? "").requestId, "[secret]");
});

test("a refusal is told at info, a failure of ours as a warning with its cause", () => {
  const refused = logged("r", new GatewayError("model_not_found", "There is no such model."));
  const [line] = refused.lines.map((text) => JSON.parse(text));
  assert.deepEqual([line.level, line.msg, line.code], [30, "call refused", "model_not_found"]);
  const failed = logged("f", new GatewayError("journal_unavailable", "The disk is full."));
  const [told] = failed.lines.map((text) => JSON.parse(text));
  assert.deepEqual([told.level, told.msg, told.code], [40, "call failed", "journal_unavailable"]);
  assert.match(told.cause, /The disk is full/);
  assert.equal(told.requestId, "f");
});
