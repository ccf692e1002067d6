import { readNumber } from "./decimal.ts";
import { isTree, type Tree } from "./document.ts";
import type { MockAnswer } from "./mock-answer.ts";

/** What `mock_response` itself says; delays and usage have keys of their own. */
export type MockResponse = Pick<MockAnswer, "chunks" | "error">;

/** What to write where a canned answer is wanted. */
export const writeMockResponse =
  'a text, a list of texts, litellm.RateLimitError or another of LiteLLM\'s errors, "Exception: why", or error: {status: 500, message: why}';

/** LiteLLM's error classes: the status each stands for, and what a provider would say. */
const errorClasses: Readonly<Record<string, { status: number; message: string }>> = {
  BadRequestError: { status: 400, message: "Mock bad request" },
  ContextWindowExceededError: { status: 400, message: "This model's maximum context length is 0 tokens (mock)" },
  ContentPolicyViolationError: { status: 400, message: "Your request was rejected by our content policy (mock)" },
  AuthenticationError: { status: 401, message: "Mock authentication error" },
  PermissionDeniedError: { status: 403, message: "Mock permission denied" },
  NotFoundError: { status: 404, message: "Mock model not found" },
  Timeout: { status: 408, message: "Mock timeout" },
  UnprocessableEntityError: { status: 422, message: "Mock unprocessable entity" },
  RateLimitError: { status: 429, message: "Mock rate limit error" },
  InternalServerError: { status: 500, message: "Mock internal server error" },
  APIConnectionError: { status: 500, message: "Mock connection error" },
  BadGatewayError: { status: 502, message: "Mock bad gateway" },
  ServiceUnavailableError: { status: 503, message: "Mock service unavailable" },
};

/** @returns undefined if it is neither an answer nor an error. */
export function readMockResponse(value: unknown): MockResponse | undefined {
  if (typeof value === "string")
    return readError(value) ?? { chunks: value.match(/\s*\S+\s*$|\s*\S+|\s+/g) ?? [], error: undefined };
  if (Array.isArray(value)) {
    const chunks = value.filter((chunk) => typeof chunk === "string");
    return chunks.length === value.length && chunks.length > 0 ? { chunks, error: undefined } : undefined;
  }
  if (!isTree(value)) return undefined;
  if (typeof value.error === "string") return readError(value.error);
  return isTree(value.error) ? readErrorMap(value.error) : undefined;
}

function readError(text: string): MockResponse | undefined {
  const match = /^(?:litellm\.(\w+)|Exception)(?::\s*(.*))?$/s.exec(text);
  if (match === null) return undefined;
  const [, name = "InternalServerError", said] = match;
  const kind = Object.hasOwn(errorClasses, name) ? errorClasses[name] : undefined;
  if (kind === undefined) return undefined;
  return { chunks: [], error: { status: kind.status, message: said ?? kind.message, retryAfterMs: undefined } };
}

function readErrorMap(error: Tree): MockResponse | undefined {
  const status = readNumber(error.status ?? 500);
  const message = error.message ?? "Mock error";
  const retryAfterS = error.retry_after === undefined ? undefined : readNumber(error.retry_after);
  if (error.retry_after !== undefined && (retryAfterS === undefined || retryAfterS < 0)) return undefined;
  if (status === undefined || !Number.isInteger(status) || status < 400 || status > 599) return undefined;
  if (typeof message !== "string") return undefined;
  const retryAfterMs = retryAfterS === undefined ? undefined : Math.round(retryAfterS * 1000);
  return { chunks: [], error: { status, message, retryAfterMs } };
}
