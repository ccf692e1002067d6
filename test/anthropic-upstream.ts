import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { faultOf, fieldsOf, listOf } from "./anthropic-rules.ts";

/** What the upstream was asked, and its own bill. */
export interface AnthropicCall {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** Whether the other side went away before the end. */
  aborted: boolean;
}

type Block = Readonly<Record<string, unknown>>;

/** What was used, in Anthropic's words: the bill a test reckons by hand. */
const plainUsage = { input_tokens: 11, output_tokens: 7 };
const cachedUsage = {
  input_tokens: 11,
  cache_read_input_tokens: 100,
  cache_creation_input_tokens: 50,
  cache_creation: { ephemeral_5m_input_tokens: 20, ephemeral_1h_input_tokens: 30 },
  output_tokens: 7,
};

export const signature = "EqQBCkYIBxgCKkB/signed==";

/**
 * A server that speaks Anthropic's Messages on a real socket and refuses what Anthropic would. It thinks when asked to, calls
 * the first tool it is given, keeps to a JSON format, and tells what it was shown. Some names of models stand for failures.
 */
export class AnthropicUpstream {
  readonly calls: AnthropicCall[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((req, res) => void this.#answer(req, res));
  }

  static async start(): Promise<AnthropicUpstream> {
    const upstream = new AnthropicUpstream();
    upstream.#server.listen(0, "127.0.0.1");
    await once(upstream.#server, "listening");
    return upstream;
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get lastCall(): AnthropicCall {
    const call = this.calls.at(-1);
    if (call === undefined) throw new Error("nobody called");
    return call;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    const call = { path: req.url ?? "", headers: req.headers, text, body: fieldsOf(JSON.parse(text)), aborted: false };
    this.calls.push(call);
    res.on("close", () => {
      call.aborted = !res.writableFinished;
    });
    const version = req.headers["anthropic-version"];
    if (req.headers["x-api-key"] !== "sk-ant-upstream")
      return sendError(res, 401, "authentication_error", "invalid x-api-key sk-ant-api03-abcdefgh");
    if (typeof version !== "string")
      return sendError(res, 400, "invalid_request_error", "anthropic-version: header is required");
    if (call.path === "/v1/messages/count_tokens") {
      const { max_tokens, stream } = call.body;
      if (max_tokens !== undefined || stream !== undefined)
        return sendError(res, 400, "invalid_request_error", "max_tokens: Extra inputs are not permitted");
      return sendJson(res, 200, { input_tokens: 42 });
    }
    if (call.path !== "/v1/messages") return sendError(res, 404, "not_found_error", "Not found");
    const failure = failures[String(call.body.model)];
    if (failure !== undefined) return failure(res, call.body);
    const fault = faultOf(call.body, version);
    if (fault !== undefined) return sendError(res, 400, "invalid_request_error", fault);
    const message = messageFor(call.body);
    if (call.body.stream === true) await sendStream(res, message);
    else sendJson(res, 200, message);
  }
}

/** The whole answer to a request. */
export function messageFor(
  body: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> & { content: Block[] } {
  const content: Block[] = [];
  const thinking = fieldsOf(body.thinking).type;
  if (thinking === "enabled" || thinking === "adaptive") {
    content.push({ type: "thinking", thinking: "Let me see. They want something.", signature });
    content.push({ type: "redacted_thinking", data: "b3BhcXVl" });
  }
  // Searches are made there; the caller has nothing to bring.
  const isSearch = ({ type }: { readonly type?: unknown }) => String(type).startsWith("web_search");
  const searches = listOf(body.tools).filter(isSearch).length * 2;
  const tools = listOf(body.tools).filter((tool) => !isSearch(tool));
  const choice = fieldsOf(body.tool_choice);
  const last = listOf(body.messages).at(-1);
  const results = listOf(last?.content).filter(({ type }) => type === "tool_result");
  const format = fieldsOf(fieldsOf(body.output_config).format);
  const isCalling = tools.length > 0 && results.length === 0 && choice.type !== "none";
  if (isCalling) {
    const named = tools.find(({ name }) => name === choice.name) ?? tools[0];
    if (choice.type === undefined || choice.type === "auto") content.push({ type: "text", text: "I shall look." });
    content.push({ type: "tool_use", id: "toolu_01", name: named?.name, input: { city: "Zürich 🚀", days: 3 } });
    if (choice.disable_parallel_tool_use !== true && choice.type !== "tool") {
      content.push({ type: "tool_use", id: "toolu_02", name: tools.at(-1)?.name, input: {} });
    }
  } else if (format.type === "json_schema") {
    content.push({ type: "text", text: '{"city":"Zürich","days":3}' });
  } else {
    content.push({ type: "text", text: `Hello wörld.${shown(last?.content)}\n\ndata: [DONE]\n\n "x" 🚀` });
  }
  const isCached = JSON.stringify(body).includes('"cache_control":{');
  return {
    id: "msg_01",
    type: "message",
    role: "assistant",
    model: body.model,
    content,
    stop_reason: isCalling ? "tool_use" : "end_turn",
    stop_sequence: null,
    usage: {
      ...(isCached ? cachedUsage : plainUsage),
      ...(searches > 0 && { server_tool_use: { web_search_requests: searches } }),
      service_tier: "standard",
    },
    unknown_field: { kept: true },
  };
}

/** What of the last message is no text. */
function shown(content: unknown): string {
  const others = listOf(content).filter(({ type }) => type !== "text");
  return others
    .map(({ type, source }) => ` [${type}${source === undefined ? "" : `:${fieldsOf(source).type}`}]`)
    .join("");
}

/** The frames of a message as Anthropic streams it. */
export function framesOf(message: ReturnType<typeof messageFor>): string[] {
  const usage = fieldsOf(message.usage);
  const frames = [
    frame({
      type: "message_start",
      message: {
        ...{ ...message, content: [], stop_reason: null },
        usage: { ...usage, output_tokens: 1, server_tool_use: undefined },
      },
    }),
    frame({ type: "ping" }),
  ];
  for (const [index, block] of message.content.entries()) {
    const { start, deltas } = streamed(block);
    frames.push(frame({ type: "content_block_start", index, content_block: start }));
    for (const delta of deltas) frames.push(frame({ type: "content_block_delta", index, delta, unknown_field: 1 }));
    frames.push(frame({ type: "content_block_stop", index }));
  }
  frames.push(
    frame({
      type: "message_delta",
      delta: { stop_reason: message.stop_reason, stop_sequence: null },
      usage: { output_tokens: usage.output_tokens, input_tokens: null, server_tool_use: usage.server_tool_use },
    }),
    frame({ type: "message_stop" }),
  );
  return frames;
}

function streamed(block: Block): { start: Block; deltas: Block[] } {
  if (block.type === "text") {
    const pieces = cut(String(block.text)).map((text) => ({ type: "text_delta", text }));
    const cited = listOf(block.citations).map((citation) => ({ type: "citations_delta", citation }));
    return { start: { type: "text", text: "" }, deltas: [...pieces, ...cited] };
  }
  if (block.type === "thinking") {
    const pieces = cut(String(block.thinking)).map((thinking) => ({ type: "thinking_delta", thinking }));
    const signed = { type: "signature_delta", signature: block.signature };
    return { start: { type: "thinking", thinking: "", signature: "" }, deltas: [...pieces, signed] };
  }
  if (block.type === "tool_use") {
    const json = JSON.stringify(block.input);
    // A tool without parameters streams no input.
    const pieces = json === "{}" ? [] : ["", ...cut(json)];
    return {
      start: { ...block, input: {} },
      deltas: pieces.map((partial_json) => ({ type: "input_json_delta", partial_json })),
    };
  }
  return { start: block, deltas: [] };
}

function cut(text: string): string[] {
  const characters = [...text];
  const middle = Math.ceil(characters.length / 2);
  return [characters.slice(0, middle).join(""), characters.slice(middle).join("")];
}

function frame(event: Block): string {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}

async function sendStream(res: ServerResponse, message: ReturnType<typeof messageFor>): Promise<void> {
  res.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  for (const text of framesOf(message)) {
    res.write(text);
    await new Promise((resolve) => setImmediate(resolve));
  }
  res.end();
}

function sendJson(res: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  res.writeHead(status, { "content-type": "application/json", "request-id": "req_upstream", ...headers });
  res.end(JSON.stringify(body));
}

function sendError(
  res: ServerResponse,
  status: number,
  type: string,
  message: string,
  headers: Record<string, string> = {},
): void {
  sendJson(res, status, { type: "error", error: { type, message }, request_id: "req_upstream" }, headers);
}

type Failure = (res: ServerResponse, body: Readonly<Record<string, unknown>>) => void;

/** By the model's name. */
const failures: Readonly<Record<string, Failure>> = {
  "too-long": (res) =>
    sendError(res, 400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
  "too-long-together": (res) =>
    sendError(
      res,
      400,
      "invalid_request_error",
      "input length and `max_tokens` exceed context limit: 195000 + 8192 > 200000",
    ),
  filtered: (res) => sendError(res, 400, "invalid_request_error", "Output blocked by content filtering policy"),
  poor: (res) =>
    sendError(res, 400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
  forbidden: (res) => sendError(res, 403, "permission_error", "no"),
  unknown: (res) => sendError(res, 404, "not_found_error", "model: unknown"),
  huge: (res) => sendError(res, 413, "request_too_large", "Request exceeds the maximum size"),
  limited: (res) => sendError(res, 429, "rate_limit_error", "slow down", { "retry-after": "7" }),
  broken: (res) => sendError(res, 500, "api_error", "Internal server error"),
  overloaded: (res) => sendError(res, 529, "overloaded_error", "Overloaded"),
  /** Says so in a stream, before any content. */
  "overloaded-early": (res, body) => {
    const [start = ""] = framesOf(messageFor({ ...body, messages: [] }));
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.end(start + frame({ type: "error", error: { type: "overloaded_error", message: "Overloaded" } }));
  },
  /** Says so after some content. */
  "overloaded-late": (res, body) => {
    const frames = framesOf(messageFor({ ...body, messages: [] }));
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write(frames.slice(0, 4).join(""));
    setTimeout(() => res.end(frame({ type: "error", error: { type: "overloaded_error", message: "Overloaded" } })), 50);
  },
  /** Breaks off in the middle. */
  cut: (res, body) => {
    const frames = framesOf(messageFor({ ...body, messages: [] }));
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write(frames.slice(0, 4).join(""));
    setTimeout(() => res.destroy(), 50);
  },
  /** Refuses, and says why. */
  refusing: (res, body) =>
    sendJson(res, 200, {
      ...messageFor({ ...body, messages: [] }),
      content: [],
      stop_reason: "refusal",
      stop_details: { type: "refusal", category: "bio", explanation: "This is not for me." },
    }),
};
