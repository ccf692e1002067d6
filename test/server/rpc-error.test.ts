import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ErrorCode, errorTable, GatewayError } from "../../src/errors.ts";
import { abortReason, gatewayErrorOf, rpcErrorFrom, toConnectError } from "../../src/server/rpc-error.ts";

/** The details an error is going to send, by type. */
function detailsOf(error: ConnectError): Record<string, unknown> {
  const details: Record<string, unknown> = {};
  for (const detail of error.details) {
    assert.ok("desc" in detail);
    assert.equal(details[detail.desc.name], undefined, `${detail.desc.name} twice`);
    details[detail.desc.name] = detail.value;
  }
  return details;
}

test("every code of the error table becomes its status, with a reason and whether to try again", () => {
  for (const [code, kind] of Object.entries(errorTable)) {
    const error = toConnectError(new GatewayError(code as ErrorCode, "It went wrong."));
    assert.equal(error.code, kind.rpcCode);
    assert.equal(error.rawMessage, "It went wrong.");
    assert.equal(error.metadata.get("x-should-retry"), String(kind.retry));
    assert.deepEqual(detailsOf(error).ErrorInfo, { reason: code.toUpperCase(), domain: "tollgate.dev", metadata: {} });
    assert.match(code.toUpperCase(), /^[A-Z][A-Z0-9_]{0,61}[A-Z0-9]$/);
  }
});

test("a rate limit says which quota, and how long to wait", () => {
  const error = toConnectError(
    new GatewayError("rate_limit_exceeded", "Too fast.", {
      retryAfterMs: 1_250.4,
      metadata: { scope: "team", scopeId: "t1" },
    }),
  );
  assert.deepEqual(detailsOf(error), {
    ErrorInfo: { reason: "RATE_LIMIT_EXCEEDED", domain: "tollgate.dev", metadata: { scope: "team", scopeId: "t1" } },
    QuotaFailure: { violations: [{ subject: "team:t1", description: "Too fast." }] },
    RetryInfo: { retryDelay: { seconds: 1n, nanos: 251_000_000 } },
  });
  assert.equal(error.metadata.get("retry-after-ms"), "1251");
  assert.equal(error.metadata.get("retry-after"), "2");
});

test("a used-up budget says which quota and nothing about waiting", () => {
  const error = toConnectError(
    new GatewayError("budget_exceeded", "Spent.", { metadata: { scope: "key", scopeId: "k" } }),
  );
  assert.deepEqual(Object.keys(detailsOf(error)), ["ErrorInfo", "QuotaFailure"]);
  assert.equal(error.metadata.get("x-should-retry"), "false");
  assert.equal(error.metadata.get("retry-after"), null);
});

test("a wrong field is named", () => {
  const error = toConnectError(new GatewayError("invalid_request", "Not so.", { param: "chat.seed" }));
  assert.deepEqual(detailsOf(error).BadRequest, { fieldViolations: [{ field: "chat.seed", description: "Not so." }] });
});

test("what was thrown and is no failure of ours is internal, and does not show", () => {
  const cause = new TypeError("secret of the house");
  const error = rpcErrorFrom(cause);
  assert.equal(error.code, Code.Internal);
  assert.doesNotMatch(error.message, /secret/);
  assert.equal(gatewayErrorOf(error).cause, cause);
});

test("connect's own errors get a reason, once", () => {
  const error = rpcErrorFrom(rpcErrorFrom(new ConnectError("no such thing", Code.NotFound)));
  assert.deepEqual(detailsOf(error), { ErrorInfo: { reason: "NOT_FOUND", domain: "tollgate.dev", metadata: {} } });
});

test("an aborted call says why: a deadline, a shutdown, or a caller that went away", () => {
  const shutdown = new GatewayError("shutting_down", "Bye.");
  assert.equal(abortReason(new ConnectError("late", Code.DeadlineExceeded)).code, "deadline_exceeded");
  assert.equal(abortReason(toConnectError(shutdown)), shutdown);
  assert.equal(abortReason(shutdown), shutdown);
  assert.equal(abortReason(new ConnectError("reset", Code.Canceled)).code, "client_closed_request");
  assert.equal(abortReason(new DOMException("aborted", "AbortError")).code, "client_closed_request");
});
