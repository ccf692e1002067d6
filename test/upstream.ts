import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What the upstream did for one call: its own bill, against which the books are checked. */
export interface UpstreamCall {
  readonly body: string;
  /** What a form had, by OpenAI's names; undefined: it was no form. */
  readonly form: FormData | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly path: string;
  /** Output tokens it sent before the connection ended. */
  outputTokens: number;
  /** Whether the other side went away before the end. */
  aborted: boolean;
}

/** How one call is answered. */
export type Script = (call: UpstreamCall, res: ServerResponse, request: ChatBody) => void | Promise<void>;

/** The fields of a request the scripts look at. */
export interface ChatBody {
  readonly model: string;
  readonly stream?: boolean;
  readonly stream_options?: { readonly include_usage?: boolean };
  readonly max_tokens?: number;
  readonly max_completion_tokens?: number;
}

export const inputTokens = 10;

/**
 * An OpenAI-compatible server on a real socket that keeps its own bill. The model's name picks the script; scripts not named
 * here can be added.
 */
export class Upstream {
  readonly calls: UpstreamCall[] = [];
  readonly scripts = new Map<string, Script>(Object.entries(scripts));
  /** Answers what comes to `/v1/responses`, but for models that always fail; undefined: scripts do. */
  responses: { answer(method: string, path: string, body: string, res: ServerResponse): void } | undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((req, res) => void this.#answer(req, res));
  }

  static async start(): Promise<Upstream> {
    const upstream = new Upstream();
    upstream.#server.listen(0, "127.0.0.1");
    await once(upstream.#server, "listening");
    return upstream;
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    const bytes = Buffer.concat(pieces);
    const body = bytes.toString("utf8");
    const type = req.headers["content-type"] ?? "";
    // Another reader of forms than the one that is tested.
    const form = type.startsWith("multipart/")
      ? await new Response(bytes, { headers: { "content-type": type } }).formData()
      : undefined;
    const request = (form === undefined ? JSON.parse(body || "{}") : Object.fromEntries(form)) as ChatBody;
    const { headers, url: path = "" } = req;
    const call: UpstreamCall = { body, form, headers, path, outputTokens: 0, aborted: false };
    this.calls.push(call);
    res.on("close", () => {
      call.aborted = !res.writableFinished;
    });
    const [, ofResponses] = /^\/v1\/responses(.*)$/.exec(req.url ?? "") ?? [];
    const isFailing = failing.has(request.model);
    if (ofResponses !== undefined && this.responses !== undefined && !isFailing) {
      this.responses.answer(req.method ?? "", ofResponses, body, res);
      return;
    }
    const script = this.scripts.get(request.model);
    if (script === undefined)
      return sendJson(res, 404, { error: { message: `no model ${request.model}`, code: "model_not_found" } });
    await script(call, res, request);
  }
}

/** Words with everything that is awkward on a wire: escapes, line ends, emoji, and text that looks like a frame. */
export const words = ["Hello", " wörld", " — “quoted”", "\n\ndata: [DONE]\n\n", " 🚀🚀", ' \\u0000 "x"', " end."];

export function sendJson(
  res: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  res.writeHead(status, { "content-type": "application/json", ...headers });
  res.end(JSON.stringify(body));
}

export function chunk(request: ChatBody, delta: object, finishReason: string | null = null): string {
  return `data: ${JSON.stringify({
    id: "chatcmpl-up-1",
    object: "chat.completion.chunk",
    created: 1_700_000_000,
    model: request.model,
    unknown_field: { kept: true },
    choices: [{ index: 0, delta, finish_reason: finishReason }],
  })}\n\n`;
}

function usage(outputTokens: number): object {
  return { prompt_tokens: inputTokens, completion_tokens: outputTokens, total_tokens: inputTokens + outputTokens };
}

function answerOk(call: UpstreamCall, res: ServerResponse, request: ChatBody, pauseMs = 0): void | Promise<void> {
  if (request.stream === true) return stream(call, res, request, pauseMs);
  call.outputTokens = words.length;
  sendJson(res, 200, {
    id: "chatcmpl-up-1",
    object: "chat.completion",
    created: 1_700_000_000,
    model: request.model,
    unknown_field: { kept: true },
    choices: [{ index: 0, message: { role: "assistant", content: words.join("") }, finish_reason: "stop" }],
    usage: usage(words.length),
  });
}

async function stream(call: UpstreamCall, res: ServerResponse, request: ChatBody, pauseMs: number): Promise<void> {
  res.writeHead(200, { "content-type": "text/event-stream" });
  res.write(chunk(request, { role: "assistant", content: "" }));
  for (const word of words) {
    if (call.aborted) return;
    res.write(chunk(request, { content: word }));
    call.outputTokens++;
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  res.write(chunk(request, {}, "stop"));
  if (request.stream_options?.include_usage === true) {
    res.write(
      `data: ${JSON.stringify({ id: "chatcmpl-up-1", object: "chat.completion.chunk", choices: [], usage: usage(call.outputTokens) })}\n\n`,
    );
  }
  res.end("data: [DONE]\n\n");
}

/** Models that fail alike whatever they are asked. */
const failing = new Set(["limited", "too-long"]);

const scripts: Record<string, Script> = {
  ok: (call, res, request) => answerOk(call, res, request),
  slow: (call, res, request) => answerOk(call, res, request, 300),
  html: (_call, res) => {
    res.writeHead(200, { "content-type": "text/html" });
    res.end("<html><body>Welcome to nginx!</body></html>");
  },
  "html-error": (_call, res) => {
    res.writeHead(502, { "content-type": "text/html" });
    res.end("<html><body>Bad gateway sk-live-abcdef1234567890</body></html>");
  },
  "bad-key": (_call, res) =>
    sendJson(res, 401, {
      error: { message: "Incorrect API key provided: sk-live-abcdef1234567890", type: "invalid_request_error" },
    }),
  "rate-limited": (_call, res) => sendJson(res, 429, { error: { message: "slow down" } }, { "retry-after": "0" }),
  "bad-request": (_call, res) =>
    sendJson(res, 400, {
      error: { message: "temperature must be at most 2", type: "invalid_request_error", param: "temperature" },
    }),
  "too-long": (_call, res) =>
    sendJson(res, 400, {
      error: { message: "This model's maximum context length is 10 tokens", code: "context_length_exceeded" },
    }),
  down: (_call, res) => sendJson(res, 500, { error: { message: "boom" } }),
  /** Breaks off in the middle of a stream, or of a body, by resetting the connection. */
  cut: async (call, res, request) => {
    res.writeHead(200, { "content-type": request.stream === true ? "text/event-stream" : "application/json" });
    res.write(
      request.stream === true ? chunk(request, { role: "assistant", content: "half a" }) : '{"id":"x","choices":[',
    );
    call.outputTokens = 1;
    await new Promise((resolve) => setTimeout(resolve, 100));
    res.destroy();
  },
  /** Ends a stream cleanly, but without a finish reason and without [DONE]. */
  short: async (call, res, request) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write(chunk(request, { role: "assistant", content: "half a" }));
    call.outputTokens = 1;
    await new Promise((resolve) => setTimeout(resolve, 50));
    res.end();
  },
  /** Says in the stream that it has failed. */
  "error-event": (call, res, request) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write(chunk(request, { role: "assistant", content: "half a" }));
    call.outputTokens = 1;
    res.end(`data: ${JSON.stringify({ error: { message: "overloaded", type: "server_error" } })}\n\n`);
  },
  /** Never answers. */
  silent: () => {},
};
