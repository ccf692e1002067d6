import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import { type BedrockFacts, readBedrockAnswer } from "../wires/bedrock-answer.ts";
import { answersByTool, countedModel, encodeBedrockCount, encodeBedrockRequest } from "../wires/bedrock-chat.ts";
import { bedrockCode } from "../wires/bedrock-error.ts";
import { BedrockStreamReader } from "../wires/bedrock-stream.ts";
import { countOf, isObject, objectOf, parseJson, textOf } from "../wires/json.ts";
import type { AwsCredentialStore } from "./aws-credentials.ts";
import type { FailureHints } from "./failures.ts";
import type { Dialect } from "./http-provider.ts";
import type { ProviderCall } from "./provider.ts";
import type { AnswerHeaders } from "./provider-answer.ts";
import { signRequest } from "./sigv4.ts";

/** Amazon Bedrock: any of its models through Converse, signed, or with a key of its own. */
export function bedrockDialect({ clock, credentials }: { clock: Clock; credentials: AwsCredentialStore }): Dialect {
  const factsOf = ({ deployment, request }: ProviderCall, headers: AnswerHeaders): BedrockFacts => ({
    id: String(headers["x-amzn-requestid"] ?? ""),
    model: deployment.model,
    nowS: Math.floor(clock.nowMs() / 1000),
    readsJsonTool: answersByTool(request, deployment.model),
  });
  return {
    streamType: "application/vnd.amazon.eventstream",
    async ask(call) {
      const { request, deployment, outputTokensMax } = call;
      const { model, provider, params, apiBase } = deployment;
      const method = request.stream ? "converse-stream" : "converse";
      const url = new URL(`${apiBase}/model/${encodeURIComponent(model)}/${method}`);
      const body = encodeBedrockRequest(request, { model, outputTokensMax, provider, params });
      return { url, body, headers: await headersOf(call, url, body, credentials, clock) };
    },
    async askCount(call) {
      const { request, deployment, outputTokensMax } = call;
      const { model, provider, params, apiBase } = deployment;
      const url = new URL(`${apiBase}/model/${encodeURIComponent(countedModel(model))}/count-tokens`);
      const body = encodeBedrockCount(request, { model, outputTokensMax, provider, params });
      const question = { url, body, headers: await headersOf(call, url, body, credentials, clock) };
      return { question, countIn: (answer) => countOf(objectOf(answer)?.inputTokens), mayBeUnable: true };
    },
    reader: (call, headers) => new BedrockStreamReader(factsOf(call, headers)),
    whole(call, body, headers) {
      const events = readBedrockAnswer(body, factsOf(call, headers));
      if (events instanceof GatewayError) throw events;
      return events;
    },
    hints: hintsOf,
  };
}

/** The operator's own headers are not signed: a proxy on the way may change them. */
async function headersOf(
  { deployment, signal }: ProviderCall,
  url: URL,
  body: Buffer,
  store: AwsCredentialStore,
  clock: Clock,
): Promise<Record<string, string>> {
  const headers: Record<string, string> = {};
  for (const name in deployment.headers) headers[name.toLowerCase()] = deployment.headers[name] ?? "";
  const { access, apiKey } = deployment;
  if (apiKey !== undefined) return { ...headers, authorization: `Bearer ${apiKey.reveal()}` };
  if (access?.cloud !== "aws") return headers;
  const credentials = await store.get(access, signal);
  const scope = { region: access.region, service: "bedrock", nowMs: clock.nowMs() };
  const signed = { method: "POST", url, headers: { "content-type": "application/json" }, body } as const;
  return { ...headers, ...signRequest(signed, credentials, scope) };
}

/** An error is named in a header, or in the body. */
function hintsOf(_status: number, headers: AnswerHeaders, said: string): FailureHints {
  const body = parseJson(said);
  const header = headers["x-amzn-errortype"];
  const name = typeof header === "string" ? header : isObject(body) ? textOf(body.__type) : undefined;
  return { code: name === undefined ? undefined : bedrockCode(name) };
}
