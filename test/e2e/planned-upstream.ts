/** A provider whose deployments fail by plan, one step a call. */

import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type ChatBody, chunk, type Script, sendJson, Upstream, type UpstreamCall } from "../upstream.ts";

const halfABody = '{"id":"chatcmpl-up-1","object":"chat.completion","choices":[{"index":0,';

/** What a provider can do with a call. */
export const acts = {
  busy: refuse(429, "slow down"),
  busyForAMoment: refuse(429, "slow down", { "retry-after-ms": "300" }),
  busyForASecond: refuse(429, "slow down", { "retry-after": "1" }),
  busyForAMinute: refuse(429, "slow down", { "retry-after": "60" }),
  broken: refuse(500, "boom"),
  badGateway: refuse(502, "no upstream"),
  away: refuse(503, "overloaded"),
  badKey: refuse(401, "Incorrect API key provided: sk-live-abcdef1234567890"),
  unknownModel: refuse(404, "The model does not exist"),
  rejected: refuse(400, "temperature must be at most 2"),
  tooLong: refuse(400, "This model's maximum context length is 10 tokens", {}, "context_length_exceeded"),
  indecent: refuse(400, "The response was filtered", {}, "content_policy_violation"),
  /** Never says a word. */
  silent: () => {},
  /** Begins, and then says nothing more. */
  stalled: (call, res, request) => begin(call, res, request),
  resetBeforeHead: (_call, res) => void res.socket?.resetAndDestroy(),
  resetAfterHead: async (_call, res, request) => {
    head(res, request);
    res.flushHeaders();
    await sleep(30);
    res.socket?.resetAndDestroy();
  },
  resetInTheMiddle: async (call, res, request) => {
    begin(call, res, request);
    await sleep(30);
    res.socket?.resetAndDestroy();
  },
  /** Ends as if all were well, in the middle. */
  truncated: (call, res, request) => {
    begin(call, res, request);
    res.end();
  },
  /** Ends as if all were well, before it has begun. */
  empty: (_call, res, request) => {
    head(res, request);
    res.end();
  },
  garbage: (_call, res, request) => {
    head(res, request);
    res.end(request.stream === true ? "data: no json\n\n" : "no json");
  },
  page: (_call, res) => {
    res.writeHead(200, { "content-type": "text/html" });
    res.end("<html><body>Welcome to nginx!</body></html>");
  },
  /** A line without an end. */
  endless: async (call, res, request) => {
    head(res, request);
    res.write(request.stream === true ? "data: " : halfABody);
    const piece = Buffer.alloc(256 * 1024, 0x61);
    while (!call.aborted) {
      if (!res.write(piece)) await Promise.race([sleep(50), new Promise((resolve) => res.once("drain", resolve))]);
    }
  },
  /** Says in the first event of its stream that it has failed. */
  failsAtOnce: (call, res, request) => failInStream(call, res, request, false),
  /** Says in its stream, after the first words, that it has failed. */
  failsLater: (call, res, request) => failInStream(call, res, request, true),
} as const satisfies Record<string, Script>;

export type Act = keyof typeof acts | "ok";

/** Deployments by the names their models have upstream, and which of them was called when. */
export class PlannedUpstream {
  readonly #upstream: Upstream;
  readonly #calls = new Map<string, string[]>();

  private constructor(upstream: Upstream) {
    this.#upstream = upstream;
  }

  static async start(): Promise<PlannedUpstream> {
    return new PlannedUpstream(await Upstream.start());
  }

  get baseUrl(): string {
    return this.#upstream.baseUrl;
  }

  close(): Promise<void> {
    return this.#upstream.close();
  }

  /**
   * A line of `model_list`. What the deployment does is to be said before it is called.
   *
   * @param story whose calls are told together.
   */
  deployment(story: string, name: string, as: { readonly group: string; readonly params?: object }): string {
    const model = `${story}-${name}`;
    return `  - ${JSON.stringify({
      model_name: as.group,
      litellm_params: {
        ...{ model: `openai/${model}`, api_base: this.baseUrl, api_key: "sk-upstream-secret", max_tokens: 100 },
        ...{ input_cost_per_token: 0.000001, output_cost_per_token: 0.000002, timeout: 5, stream_timeout: 5 },
        ...as.params,
      },
      model_info: { id: model },
    })}`;
  }

  /** A deployment does one thing after the other, and then the last again and again. */
  plan(story: string, name: string, plan: readonly Act[]): void {
    let step = 0;
    this.script(story, name, (call, res, request) => {
      const act = plan[Math.min(step++, plan.length - 1)] ?? "ok";
      return this.act(act)(call, res, request);
    });
  }

  act(act: Act): Script {
    return act === "ok" ? (this.#upstream.scripts.get("ok") ?? acts.broken) : acts[act];
  }

  /** From now on a deployment does this. */
  script(story: string, name: string, script: Script): void {
    const calls = this.#calls.get(story) ?? [];
    this.#calls.set(story, calls);
    this.#upstream.scripts.set(`${story}-${name}`, (call, res, request) => {
      calls.push(name);
      return script(call, res, request);
    });
  }

  /** Which deployments a story's calls came to, in their order. */
  tried(story: string): readonly string[] {
    return this.#calls.get(story) ?? [];
  }
}

function refuse(status: number, message: string, headers: Record<string, string> = {}, code?: string): Script {
  return (_call, res) => sendJson(res, status, { error: { message, ...(code !== undefined && { code }) } }, headers);
}

function head(res: ServerResponse, request: ChatBody): void {
  res.writeHead(200, { "content-type": request.stream === true ? "text/event-stream" : "application/json" });
}

function begin(call: UpstreamCall, res: ServerResponse, request: ChatBody): void {
  head(res, request);
  res.write(request.stream === true ? chunk(request, { role: "assistant", content: "half a" }) : halfABody);
  call.outputTokens = 1;
}

function failInStream(call: UpstreamCall, res: ServerResponse, request: ChatBody, isBegun: boolean): void {
  if (isBegun) begin(call, res, request);
  else head(res, request);
  res.end(`data: ${JSON.stringify({ error: { message: "overloaded", type: "server_error" } })}\n\n`);
}
