import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { ChatBody, Upstream, UpstreamCall } from "../upstream.ts";

/** What the provider charges, in nano-dollars a token; the same is configured. */
const inputNanos = 1_000n;
const outputNanos = 2_000n;
const inputTokens = 10;
/** Tokens of an answer that is not broken off. */
const answerTokens = 5;
const pacedTokens = 12;
const pacedPauseMs = 50;

/** What a whole answer of the model "quick" costs. */
export const answerNanos = BigInt(inputTokens) * inputNanos + BigInt(answerTokens) * outputNanos;

/** What the provider charges for one call. */
export interface Bill {
  /** As in the answer; the ledger keeps it. */
  readonly responseId: string;
  /** Who pays: the name the caller gave as `user`. */
  readonly user: string;
  readonly call: UpstreamCall;
}

/** The provider's own books: what it charges for tokens it sent, whatever became of them. Every answer has an id of its own. */
export class Bills {
  readonly all: Bill[] = [];
  /** While it is a promise, calls of the model "gated" wait for it. */
  gate: Promise<void> | undefined;

  constructor(upstream: Upstream) {
    const model = (
      name: string,
      answer: (bill: Bill, res: ServerResponse, request: ChatBody) => Promise<void> | void,
    ) =>
      upstream.scripts.set(name, (call, res, request) => {
        const { user = "" } = JSON.parse(call.body) as { user?: string };
        const bill = { responseId: `up-${this.all.length}`, user, call };
        this.all.push(bill);
        return answer(bill, res, request);
      });
    upstream.scripts.clear();
    model("quick", (bill, res, request) => answerWith(bill, res, request, answerTokens, 0));
    model("paced", (bill, res, request) => answerWith(bill, res, request, pacedTokens, pacedPauseMs));
    model("endless", (bill, res, request) => answerWith(bill, res, request, 10_000, 20));
    model("flood", (bill, res, request) => flood(bill, res, request));
    model("gated", async (bill, res, request) => {
      await this.gate;
      await answerWith(bill, res, request, answerTokens, 0);
    });
  }

  of(user: string): readonly Bill[] {
    return this.all.filter((bill) => bill.user === user);
  }
}

/** What a call is charged. */
export function chargeOf({ call }: Bill): bigint {
  return BigInt(inputTokens) * inputNanos + BigInt(call.outputTokens) * outputNanos;
}

async function answerWith(bill: Bill, res: ServerResponse, request: ChatBody, tokens: number, pauseMs: number) {
  const { call, responseId: id } = bill;
  const about = { id, created: 1_700_000_000, model: request.model };
  if (request.stream !== true) {
    call.outputTokens = tokens;
    const message = { role: "assistant", content: "word ".repeat(tokens) };
    res.writeHead(200, { "content-type": "application/json" });
    const choices = [{ index: 0, message, finish_reason: "stop" }];
    res.end(JSON.stringify({ ...about, object: "chat.completion", choices, usage: usageOf(call) }));
    return;
  }
  res.writeHead(200, { "content-type": "text/event-stream" });
  const send = (fields: object) =>
    res.write(`data: ${JSON.stringify({ ...about, object: "chat.completion.chunk", ...fields })}\n\n`);
  for (let token = 0; token < tokens; token++) {
    if (call.aborted) return;
    send({ choices: [{ index: 0, delta: { role: "assistant", content: "word " }, finish_reason: null }] });
    call.outputTokens++;
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  send({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
  if (request.stream_options?.include_usage === true) send({ choices: [], usage: usageOf(call) });
  res.end("data: [DONE]\n\n");
}

/** As fast as it is read, without end. */
async function flood(bill: Bill, res: ServerResponse, request: ChatBody): Promise<void> {
  res.writeHead(200, { "content-type": "text/event-stream" });
  const choices = [{ index: 0, delta: { content: "word ".repeat(200) }, finish_reason: null }];
  const about = { id: bill.responseId, object: "chat.completion.chunk", created: 1_700_000_000, model: request.model };
  const frame = `data: ${JSON.stringify({ ...about, choices })}\n\n`;
  const closed = once(res, "close");
  while (!bill.call.aborted) {
    bill.call.outputTokens++;
    if (!res.write(frame)) await Promise.race([once(res, "drain"), closed]);
  }
}

function usageOf(call: UpstreamCall): object {
  const { outputTokens } = call;
  return { prompt_tokens: inputTokens, completion_tokens: outputTokens, total_tokens: inputTokens + outputTokens };
}
