import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type KnownKey, signatureFault } from "./aws-signature.ts";
import { bedrockEvent } from "./event-frame.ts";

/** One request that came. */
export interface BedrockCall {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Record<string, unknown>;
  aborted: boolean;
}

type Script = (call: BedrockCall, res: ServerResponse) => void | Promise<void>;

export const region = "eu-central-1";
/** What the gateway is given. */
export const accessKey = { id: "AKIATESTKEY000000001", secret: "s3cr3t/with+odd=characters" };

/** The answer of every model that has no script, and what it used: 47 + 100 + 30 tokens in, 20 out. */
const bedrockUsage = {
  ...{ inputTokens: 47, outputTokens: 20, totalTokens: 197, cacheReadInputTokens: 100, cacheWriteInputTokens: 30 },
  cacheDetails: [{ ttl: "1h", inputTokens: 10 }],
};
export const bedrockWords = ["Hello", " wörld", " — “quoted”", "\n\n", " 🚀🚀 end."];

/**
 * Amazon Bedrock and AWS's token service on a real socket: it checks the signature of every request, frames a real event
 * stream, and lends credentials of its own for roles.
 */
export class BedrockUpstream {
  readonly calls: BedrockCall[] = [];
  /** By the model's id. */
  readonly scripts = new Map<string, Script>();
  readonly keys = new Map<string, KnownKey>([[accessKey.id, { secret: accessKey.secret }]]);
  /** Keys of Bedrock's own, which are sent as they are. */
  readonly bearers = new Set<string>();
  /** What the token service was asked. */
  readonly roles: URLSearchParams[] = [];
  /** How long lent credentials hold, in seconds. */
  lendsForS = 3600;
  /** Whose web identity tokens are good. */
  webIdentity = "";
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((req, res) => void this.#answer(req, res));
  }

  static async start(): Promise<BedrockUpstream> {
    const upstream = new BedrockUpstream();
    upstream.#server.listen(0, "127.0.0.1");
    await once(upstream.#server, "listening");
    return upstream;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces);
    if (req.url === "/sts") return this.#lend(req, res, body);
    const bearer = /^Bearer (.+)$/.exec(req.headers.authorization ?? "")?.[1];
    const fault =
      bearer === undefined
        ? signatureFault(req, body, { region, service: "bedrock" }, this.keys)
        : this.bearers.has(bearer)
          ? undefined
          : "an unknown key";
    if (fault !== undefined)
      return refuse(res, 403, "UnrecognizedClientException", `The security token is bad: ${fault}`);
    const [, model = "", method = ""] =
      /^\/model\/([^/]+)\/(converse|converse-stream|count-tokens)$/.exec(req.url ?? "") ?? [];
    const call: BedrockCall = {
      ...{ path: req.url ?? "", headers: req.headers, body: JSON.parse(body.toString()) as Record<string, unknown> },
      aborted: false,
    };
    res.on("close", () => {
      call.aborted = !res.writableFinished;
    });
    this.calls.push(call);
    const script = this.scripts.get(decodeURIComponent(model));
    if (script !== undefined) return void (await script(call, res));
    if (method === "count-tokens") return countTokens(decodeURIComponent(model), call, res);
    if (method === "converse") return sendConverse(res, [{ text: bedrockWords.join("") }]);
    return sendEvents(res, textEvents());
  }

  #lend(req: IncomingMessage, res: ServerResponse, body: Buffer): void {
    const asked = new URLSearchParams(body.toString());
    const byToken = asked.get("Action") === "AssumeRoleWithWebIdentity";
    const fault = byToken
      ? asked.get("WebIdentityToken") === this.webIdentity
        ? undefined
        : "a bad token"
      : signatureFault(req, body, { region, service: "sts" }, this.keys);
    this.roles.push(asked);
    if (fault !== undefined) {
      res.writeHead(403, { "content-type": "text/xml" });
      return void res.end(
        `<ErrorResponse><Error><Code>AccessDenied</Code><Message>${fault}</Message></Error></ErrorResponse>`,
      );
    }
    const number = this.roles.length;
    const lent = { id: `ASIALENT${number}`, secret: `lent-secret-${number}/+`, token: `lent&token=${number}==` };
    this.keys.set(lent.id, lent);
    const end = new Date(Date.now() + this.lendsForS * 1000).toISOString();
    const credentials =
      `<AccessKeyId>${lent.id}</AccessKeyId><SecretAccessKey>${lent.secret}</SecretAccessKey>` +
      `<SessionToken>${lent.token.replaceAll("&", "&amp;")}</SessionToken><Expiration>${end}</Expiration>`;
    res.writeHead(200, { "content-type": "text/xml" });
    res.end(
      `<${asked.get("Action")}Response><Credentials>${credentials}</Credentials></${asked.get("Action")}Response>`,
    );
  }
}

/** Only of models themselves, and only some. */
function countTokens(model: string, { body }: BedrockCall, res: ServerResponse): void {
  const { converse } = (body.input ?? {}) as { converse?: { messages?: unknown } };
  const isKnown = /^anthropic\.claude-/.test(model) && Array.isArray(converse?.messages);
  if (isKnown) {
    res.writeHead(200, { "content-type": "application/json" });
    res.end(JSON.stringify({ inputTokens: 45 }));
  } else {
    refuse(res, 400, "ValidationException", "The provided model doesn't support counting tokens.");
  }
}

/** A whole answer. */
export function sendConverse(res: ServerResponse, content: object[], stopReason = "end_turn"): void {
  res.writeHead(200, { "content-type": "application/json", "x-amzn-requestid": "request-1" });
  res.end(JSON.stringify({ output: { message: { role: "assistant", content } }, stopReason, usage: bedrockUsage }));
}

/** A stream of frames, each in a write of its own. */
export async function sendEvents(res: ServerResponse, frames: readonly Buffer[]): Promise<void> {
  res.writeHead(200, { "content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "request-1" });
  for (const frame of frames) {
    res.write(frame);
    await new Promise((resolve) => setImmediate(resolve));
  }
  res.end();
}

export function textEvents(words: readonly string[] = bedrockWords): Buffer[] {
  return [
    bedrockEvent("messageStart", { role: "assistant" }),
    ...words.map((text) => bedrockEvent("contentBlockDelta", { contentBlockIndex: 0, delta: { text } })),
    bedrockEvent("contentBlockStop", { contentBlockIndex: 0 }),
    bedrockEvent("messageStop", { stopReason: "end_turn" }),
    bedrockEvent("metadata", { usage: bedrockUsage, metrics: { latencyMs: 1 } }),
  ];
}

/** An error answer. */
export function refuse(res: ServerResponse, status: number, type: string, message: string): void {
  res.writeHead(status, {
    "content-type": "application/json",
    "x-amzn-errortype": `${type}:http://internal.amazon.com/`,
  });
  res.end(JSON.stringify({ message }));
}
