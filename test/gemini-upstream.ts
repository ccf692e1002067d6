import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One request for content. */
export interface GeminiCall {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Record<string, unknown>;
  aborted: boolean;
}

type Script = (call: GeminiCall, res: ServerResponse) => void | Promise<void>;

export const studioKey = "AIzaSyTest-key-of-google-ai-studio-01";
/** What every answer that has no script used: 11 tokens in, 4 of them cached; 73 out, and 20 thought. */
const geminiUsage = {
  ...{ promptTokenCount: 11, candidatesTokenCount: 73, thoughtsTokenCount: 20, cachedContentTokenCount: 4 },
  totalTokenCount: 104,
};
export const geminiWords = ["Hello", " wörld", " — “quoted”", "\n\ndata: x\n\n", " 🚀🚀 end."];

const keys = generateKeyPairSync("rsa", { modulusLength: 2048 });
const email = "tollgate@test-project.iam.gserviceaccount.com";

/**
 * Google on a real socket: Gemini at AI Studio (a key) and in the cloud (a token), the token endpoint, which checks the
 * signature of what it is given, and the metadata server of a machine.
 */
export class GeminiUpstream {
  readonly calls: GeminiCall[] = [];
  /** By the model. */
  readonly scripts = new Map<string, Script>();
  /** Tokens given out, in order. */
  readonly tokens: string[] = [];
  /** What was asked for them: a form, or the metadata server's path. */
  readonly asked: (URLSearchParams | string)[] = [];
  /** How long tokens hold, in seconds. */
  lendsForS = 3600;
  /** Answers requests for tokens with this status instead. */
  tokenStatus = 200;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((req, res) => void this.#answer(req, res));
  }

  static async start(): Promise<GeminiUpstream> {
    const upstream = new GeminiUpstream();
    upstream.#server.listen(0, "127.0.0.1");
    await once(upstream.#server, "listening");
    return upstream;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The key of a service account that this server knows. */
  get accountKey(): string {
    const private_key = keys.privateKey.export({ type: "pkcs8", format: "pem" });
    const facts = { type: "service_account", project_id: "test-project", private_key_id: "k1", client_email: email };
    return JSON.stringify({ ...facts, private_key, token_uri: `${this.url}/token` });
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of req) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces).toString();
    const path = req.url ?? "";
    if (path === "/token") return this.#giveToken(res, new URLSearchParams(body));
    if (path.startsWith("/computeMetadata/")) return this.#tellMetadata(req, res, path);
    const fault = this.#doorFault(req, path);
    if (fault !== undefined) return fault(res);
    const call: GeminiCall = {
      ...{ path, headers: req.headers, body: JSON.parse(body) as Record<string, unknown> },
      aborted: false,
    };
    res.on("close", () => {
      call.aborted = !res.writableFinished;
    });
    this.calls.push(call);
    const [, model = ""] = /\/models\/([^/:]+):/.exec(path) ?? [];
    const script = this.scripts.get(decodeURIComponent(model));
    if (script !== undefined) return void (await script(call, res));
    if (path.endsWith(":countTokens")) return void countTokens(call, res);
    if (path.endsWith("/count-tokens:rawPredict")) return void sendJson(res, 200, { input_tokens: 44 });
    if (path.endsWith(":streamGenerateContent?alt=sse")) return sendPieces(res, textPieces());
    sendContent(res, [{ text: "Hm.", thought: true }, { text: geminiWords.join("") }]);
  }

  #doorFault(req: IncomingMessage, path: string): ((res: ServerResponse) => void) | undefined {
    const { authorization, "x-goog-api-key": key } = req.headers;
    if (path.startsWith("/v1beta/models/")) {
      if (key === studioKey && authorization === undefined) return undefined;
      const info = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "API_KEY_INVALID" };
      const message = "API key not valid. Please pass a valid API key.";
      return (res) => sendError(res, 400, { message, status: "INVALID_ARGUMENT", details: [info] });
    }
    const isCloud =
      /^\/v1\/projects\/test-project\/locations\/europe-west4\/(publishers\/(?:google|anthropic)\/models|endpoints)\//.test(
        path,
      );
    if (!isCloud) return (res) => sendError(res, 404, { message: `no ${path}`, status: "NOT_FOUND" });
    if (authorization === `Bearer ${this.tokens.at(-1)}` && key === undefined) return undefined;
    return (res) => sendError(res, 401, { message: "Request had invalid credentials.", status: "UNAUTHENTICATED" });
  }

  #giveToken(res: ServerResponse, asked: URLSearchParams): void {
    this.asked.push(asked);
    if (this.tokenStatus !== 200) return void sendJson(res, this.tokenStatus, { error: "unavailable" });
    const fault = asked.has("assertion") ? this.#assertionFault(asked) : undefined;
    if (fault !== undefined) return void sendJson(res, 400, { error: "invalid_grant", error_description: fault });
    this.#sendToken(res);
  }

  #sendToken(res: ServerResponse): void {
    const token = `ya29.token-${this.tokens.length + 1}`;
    this.tokens.push(token);
    sendJson(res, 200, { access_token: token, expires_in: this.lendsForS, token_type: "Bearer" });
  }

  /** What is wrong with a service account's assertion (RFC 7523), its signature first. */
  #assertionFault(asked: URLSearchParams): string | undefined {
    if (asked.get("grant_type") !== "urn:ietf:params:oauth:grant-type:jwt-bearer") return "another grant";
    const [head = "", claims = "", signature = ""] = (asked.get("assertion") ?? "").split(".");
    const isSigned = verify(
      "RSA-SHA256",
      Buffer.from(`${head}.${claims}`),
      createPublicKey(keys.publicKey.export({ type: "spki", format: "pem" })),
      Buffer.from(signature, "base64url"),
    );
    if (!isSigned) return "Invalid JWT Signature.";
    const read = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>;
    const { alg, kid } = read(head);
    const { iss, aud, scope, iat, exp } = read(claims);
    if (alg !== "RS256" || kid !== "k1" || iss !== email) return "another account";
    if (aud !== `${this.url}/token`) return "another audience";
    if (scope !== "https://www.googleapis.com/auth/cloud-platform") return "another scope";
    const nowS = Date.now() / 1000;
    const isNow = Number(iat) <= nowS + 1 && Number(exp) > nowS && Number(exp) - Number(iat) <= 3600;
    return isNow ? undefined : "another time";
  }

  #tellMetadata(req: IncomingMessage, res: ServerResponse, path: string): void {
    this.asked.push(path);
    if (req.headers["metadata-flavor"] !== "Google") return void sendJson(res, 403, { error: "no flavor" });
    if (path === "/computeMetadata/v1/project/project-id") return void res.end("test-project\n");
    if (path === "/computeMetadata/v1/instance/service-accounts/default/token") return void this.#sendToken(res);
    sendJson(res, 404, {});
  }
}

/** Of a whole request at AI Studio, of its parts in the cloud; anything else is refused, as Google does. */
function countTokens({ path, body }: GeminiCall, res: ServerResponse): void {
  const isStudio = path.startsWith("/v1beta/");
  const whole = body.generateContentRequest as { model?: string } | undefined;
  const known = isStudio ? ["generateContentRequest", "contents"] : ["contents", "systemInstruction", "tools"];
  const strange = Object.keys(body).find((key) => !known.includes(key));
  const isNamed = whole === undefined || path.includes(`/${whole.model}:`);
  if (strange === undefined && isNamed && (whole ?? body.contents))
    sendJson(res, 200, { totalTokens: isStudio ? 42 : 43 });
  else sendError(res, 400, { message: `Invalid JSON payload: ${strange}`, status: "INVALID_ARGUMENT" });
}

/** A whole answer. */
export function sendContent(res: ServerResponse, parts: object[], finishReason = "STOP", others: object = {}): void {
  const candidates = [{ content: { parts, role: "model" }, finishReason, index: 0 }];
  const facts = { modelVersion: "gemini-2.5-flash", responseId: "resp-1" };
  sendJson(res, 200, { candidates, usageMetadata: geminiUsage, ...facts, ...others });
}

/** A stream, each piece in a write of its own. */
export async function sendPieces(res: ServerResponse, pieces: readonly object[]): Promise<void> {
  res.writeHead(200, { "content-type": "text/event-stream" });
  for (const piece of pieces) {
    res.write(`data: ${JSON.stringify(piece)}\r\n\r\n`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  res.end();
}

export function textPieces(): object[] {
  const facts = { modelVersion: "gemini-2.5-flash", responseId: "resp-1" };
  const piece = (parts: object[], finish: object = {}) => ({
    candidates: [{ content: { parts }, index: 0, ...finish }],
    ...facts,
  });
  return [
    piece([{ text: "Hm.", thought: true }]),
    ...geminiWords.map((text) => piece([{ text }])),
    { ...piece([{ text: "" }], { finishReason: "STOP" }), usageMetadata: geminiUsage },
  ];
}

/** An error as Google's APIs have it. */
export function sendError(res: ServerResponse, code: number, error: object): void {
  sendJson(res, code, { error: { code, ...error } });
}

function sendJson(res: ServerResponse, status: number, body: object): void {
  res.writeHead(status, { "content-type": "application/json; charset=UTF-8" });
  res.end(JSON.stringify(body));
}
