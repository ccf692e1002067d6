import type { ServerResponse } from "node:http";
import { sendJson } from "./upstream.ts";

/** JSON, looked into with care. */
type Fields = Record<string, unknown>;

/** What the model says to a conversation. */
export type Saying = (asked: { readonly body: Fields; readonly conversation: readonly Fields[] }) => readonly Item[];

/** An item of the output, without its id. */
export type Item =
  | { readonly type: "message"; readonly text: string }
  | { readonly type: "function_call"; readonly name: string; readonly arguments: string; readonly call_id: string }
  | { readonly type: "reasoning"; readonly summary: string };

interface Kept {
  readonly response: Fields;
  /** All that was said up to and with it. */
  readonly conversation: readonly Fields[];
  readonly input: readonly Fields[];
}

const known = new Set(
  `background conversation include input instructions max_output_tokens max_tool_calls metadata model parallel_tool_calls
   previous_response_id prompt prompt_cache_key reasoning safety_identifier service_tier store stream stream_options temperature text
   tool_choice tools top_logprobs top_p truncation user`.split(/\s+/),
);

/**
 * OpenAI's responses as its own server speaks them: answers, streams event by event, keeps what it is told to, and refuses what it
 * does not know or does not have.
 */
export class ResponsesServer {
  readonly kept = new Map<string, Kept>();
  /** Output of former answers, by the items' ids. */
  readonly #items = new Map<string, Fields>();
  readonly #saying: Saying;
  readonly #usage: Fields;
  readonly #name: string;
  #made = 0;

  /** @param parts.name tells its ids from those of other servers. */
  constructor(parts: { readonly saying: Saying; readonly usage: Fields; readonly name: string }) {
    this.#saying = parts.saying;
    this.#usage = parts.usage;
    this.#name = parts.name;
  }

  /** @param path behind `/v1/responses`, with its query. */
  answer(method: string, path: string, body: string, res: ServerResponse): void {
    try {
      this.#answer(method, path, body, res);
    } catch (thrown) {
      if (!(thrown instanceof Refusal)) throw thrown;
      const { status, message, param } = thrown;
      sendJson(res, status, { error: { message, type: "invalid_request_error", param, code: null } });
    }
  }

  #answer(method: string, path: string, body: string, res: ServerResponse): void {
    if (path === "" && method === "POST") {
      this.#create(JSON.parse(body) as Fields, res);
      return;
    }
    const url = new URL(path, "http://kept");
    const [, id = "", end] = url.pathname.split("/");
    const kept = this.kept.get(id);
    if (kept === undefined) {
      throw new Refusal(404, `Response with id '${id}' not found.`);
    } else if (method === "GET" && end === undefined) {
      sendJson(res, 200, kept.response);
    } else if (method === "DELETE" && end === undefined) {
      this.kept.delete(id);
      sendJson(res, 200, { id, object: "response", deleted: true });
    } else if (method === "POST" && end === "cancel") {
      throw new Refusal(400, "Cannot cancel a synchronous response.");
    } else if (method === "GET" && end === "input_items") {
      const newestFirst = url.searchParams.get("order") !== "asc";
      const data = (newestFirst ? [...kept.input].reverse() : kept.input).slice(
        0,
        Number(url.searchParams.get("limit") ?? 20),
      );
      sendJson(res, 200, { object: "list", data, first_id: data[0]?.id, last_id: data.at(-1)?.id, has_more: false });
    } else {
      throw new Refusal(405, "Method not allowed");
    }
  }

  #create(body: Fields, res: ServerResponse): void {
    const stranger = Object.keys(body).find((name) => !known.has(name));
    if (stranger !== undefined) throw new Refusal(400, `Unknown parameter: '${stranger}'.`, stranger);
    const metadata = Object.values((body.metadata as Fields | undefined) ?? {});
    if (metadata.some((value) => typeof value !== "string")) throw new Refusal(400, "Invalid type for 'metadata'.");
    const previousId = body.previous_response_id as string | null | undefined;
    const previous = previousId == null ? undefined : this.kept.get(previousId);
    if (previousId != null && previous === undefined) {
      throw new Refusal(400, `Previous response with id '${previousId}' not found.`, "previous_response_id");
    }
    const given = typeof body.input === "string" ? [{ role: "user", content: body.input }] : (body.input as Fields[]);
    const input = given.map((item) => (item.type === "item_reference" ? this.#items.get(String(item.id)) : item));
    const lost = input.indexOf(undefined);
    if (lost !== -1) throw new Refusal(404, `Item with id '${given[lost]?.id}' not found.`, "input");
    const said = input as Fields[];
    const before = [...(previous?.conversation ?? []), ...said];
    const calls = new Set(before.filter(({ type }) => type === "function_call").map(({ call_id }) => call_id));
    const orphan = before.find(({ type, call_id }) => type === "function_call_output" && !calls.has(call_id));
    if (orphan !== undefined) {
      throw new Refusal(400, `No tool call found for function call output with call_id ${orphan.call_id}.`, "input");
    }
    this.#made += 1;
    const id = `resp_${this.#name}${String(this.#made).padStart(8, "0")}`;
    const output = this.#saying({ body, conversation: before }).map((item, index) => written(item, `${id}_${index}`));
    const response = this.#responseOf(id, body, output);
    for (const item of output) this.#items.set(String(item.id), item);
    if (body.store !== false) {
      const kept = said.map((item, index) => ({ id: `in_${id}_${index}`, type: "message", ...item }));
      this.kept.set(id, { response, conversation: [...before, ...output], input: kept });
    }
    if (body.stream === true) this.#stream(response, output, res);
    else sendJson(res, 200, response);
  }

  #responseOf(id: string, body: Fields, output: readonly Fields[]): Fields {
    return {
      ...{ id, object: "response", created_at: 1_700_000_000, status: "completed", background: false, error: null },
      ...{
        incomplete_details: null,
        instructions: body.instructions ?? null,
        max_output_tokens: body.max_output_tokens,
      },
      ...{
        model: body.model,
        output,
        parallel_tool_calls: true,
        store: body.store ?? true,
        unknown_field: { kept: true },
      },
      previous_response_id: body.previous_response_id ?? null,
      ...{
        temperature: 1,
        text: body.text ?? { format: { type: "text" } },
        tool_choice: "auto",
        tools: body.tools ?? [],
      },
      ...{ top_p: 1, truncation: "disabled", usage: this.#usage, metadata: body.metadata ?? {} },
    };
  }

  #stream(response: Fields, output: readonly Fields[], res: ServerResponse): void {
    res.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    res.end(framesOf(response, output));
  }
}

/** The events of a streamed response, as OpenAI sends them. */
export function framesOf(response: Fields, output: readonly Fields[]): string {
  let frames = "";
  let sequence_number = 0;
  const send = (type: string, fields: Fields) => {
    frames += `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number, ...fields })}\n\n`;
    sequence_number += 1;
  };
  const begun = { ...response, status: "in_progress", output: [], usage: null };
  send("response.created", { response: begun });
  send("response.in_progress", { response: begun });
  for (const [output_index, item] of output.entries()) {
    const place = { item_id: item.id, output_index };
    if (item.type === "message") {
      send("response.output_item.added", { output_index, item: { ...item, status: "in_progress", content: [] } });
      const [part] = item.content as [Fields];
      const at = { ...place, content_index: 0 };
      send("response.content_part.added", { ...at, part: { ...part, text: "" } });
      for (const delta of pieces(String(part.text))) {
        send("response.output_text.delta", { ...at, delta, logprobs: [], obfuscation: "x7" });
      }
      send("response.output_text.done", { ...at, text: part.text, logprobs: [] });
      send("response.content_part.done", { ...at, part });
    } else if (item.type === "function_call") {
      send("response.output_item.added", { output_index, item: { ...item, status: "in_progress", arguments: "" } });
      for (const delta of pieces(String(item.arguments))) {
        send("response.function_call_arguments.delta", { ...place, delta, obfuscation: "q" });
      }
      send("response.function_call_arguments.done", { ...place, arguments: item.arguments });
    } else {
      send("response.output_item.added", { output_index, item: { ...item, summary: [] } });
      const [part] = item.summary as [Fields];
      const at = { ...place, summary_index: 0 };
      send("response.reasoning_summary_part.added", { ...at, part: { type: "summary_text", text: "" } });
      send("response.reasoning_summary_text.delta", { ...at, delta: part.text });
      send("response.reasoning_summary_text.done", { ...at, text: part.text });
      send("response.reasoning_summary_part.done", { ...at, part });
    }
    send("response.output_item.done", { output_index, item });
  }
  send("response.completed", { response });
  return frames;
}

function written(item: Item, id: string): Fields {
  if (item.type === "reasoning") {
    return { id: `rs_${id}`, type: "reasoning", summary: [{ type: "summary_text", text: item.summary }] };
  }
  if (item.type === "function_call") return { id: `fc_${id}`, status: "completed", ...item };
  const content = [{ type: "output_text", annotations: [], logprobs: [], text: item.text }];
  return { id: `msg_${id}`, type: "message", status: "completed", role: "assistant", content };
}

function pieces(text: string): readonly string[] {
  const characters = [...text];
  const middle = Math.ceil(characters.length / 2);
  return [characters.slice(0, middle).join(""), characters.slice(middle).join("")].filter((piece) => piece !== "");
}

/** A request that is refused. */
class Refusal extends Error {
  readonly status: number;
  readonly param: string | null;

  constructor(status: number, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}
