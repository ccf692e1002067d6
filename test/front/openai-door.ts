import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import OpenAI from "openai";
import { systemClock } from "../../src/clock.ts";
import type { AcceptedEvent, CallEvent, Caller, CompletionRequest, SettledEvent } from "../../src/completion.ts";
import type { CompletionGateway } from "../../src/front/doors.ts";
import type { ManagementForwarder } from "../../src/front/management.ts";
import { createOpenAiDoor, type OpenAiDoorLimits } from "../../src/front/openai.ts";

/** How a model's calls go. */
export type CallScript = (request: CompletionRequest, caller: Caller) => AsyncIterable<CallEvent>;

export const accepted: AcceptedEvent = {
  type: "accepted",
  callId: "call-1",
  deploymentId: "deployment-1",
  modelGroup: "group",
  attempts: 2,
  fallbacks: 0,
  timeoutMs: 5_000,
  limits: [
    { scope: "key", kind: "requests", ceiling: 100, remaining: 99 },
    { scope: "team", kind: "requests", ceiling: 10, remaining: 4 },
    { scope: "key", kind: "tokens", ceiling: 5000, remaining: 4321 },
  ],
};

export function settled(raw?: string): SettledEvent {
  const usage = {
    inputTokens: 3,
    outputTokens: 2,
    cacheReadInputTokens: 0,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: 0,
    estimated: false,
  };
  return { type: "settled", usage, cost: 1_500_000n, raw: raw === undefined ? undefined : Buffer.from(raw) };
}

/** A gateway that does what a test says, and remembers what it was asked. */
class ScriptedGateway implements CompletionGateway {
  readonly scripts = new Map<string, CallScript>();
  readonly calls: { readonly request: CompletionRequest; readonly caller: Caller }[] = [];
  models = ["gpt-demo", "openai/*", "team/sub/model"];
  modelsToken: string | undefined;

  complete(request: CompletionRequest, caller: Caller): AsyncIterable<CallEvent> {
    this.calls.push({ request, caller });
    const script = this.scripts.get(request.model);
    if (script === undefined) throw new Error(`no script for ${request.model}`);
    return script(request, caller);
  }

  async countTokens(request: CompletionRequest, caller: Caller): Promise<number> {
    this.calls.push({ request, caller });
    return 42;
  }

  async listModels(token: string | undefined): Promise<string[]> {
    this.modelsToken = token;
    return this.models;
  }
}

/** The door on a real port. */
export class TestDoor {
  readonly gateway = new ScriptedGateway();
  readonly bugs: unknown[] = [];
  ready = true;
  readonly server: Server;
  readonly handler: ReturnType<typeof createOpenAiDoor>;

  constructor(limits: Partial<OpenAiDoorLimits> = {}, management?: ManagementForwarder) {
    this.handler = createOpenAiDoor({
      gateway: this.gateway,
      clock: systemClock,
      random: () => 0.5,
      version: "1.2.3",
      ready: () => this.ready,
      onBug: (error) => this.bugs.push(error),
      management,
      limits,
    });
    this.server = createServer(this.handler);
  }

  async open(): Promise<this> {
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    return this;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  client(options: { maxRetries?: number } = {}): OpenAI {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: "sk-test", maxRetries: 0, ...options });
  }

  post(body: string | Uint8Array<ArrayBuffer> | object, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${this.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer sk-test", ...headers },
      body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
    });
  }

  async connect(): Promise<Socket> {
    const socket = connect(this.port, "127.0.0.1");
    await once(socket, "connect");
    return socket;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, "close");
  }
}

/** Everything a socket says until it is closed, or until `until` is in it. */
export async function hear(socket: Socket, until?: string): Promise<string> {
  let heard = "";
  for await (const chunk of socket) {
    heard += String(chunk);
    if (until !== undefined && heard.includes(until)) break;
  }
  return heard;
}

export function chatBody(model: string, fields: object = {}) {
  return { model, messages: [{ role: "user" as const, content: "hi" }], ...fields };
}
