/** RoutingService: what would become of a call, told to its key or to the master key. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter } from "@connectrpc/connect";
import type { CompletionRequest } from "../completion.ts";
import type { Deployment } from "../config/config.ts";
import { lastOrder } from "../config/deployments.ts";
import { GatewayError } from "../errors.ts";
import type { ExplainAsk, ExplainedGroup, Explanation } from "../explainer.ts";
import {
  type ExplainedGroupSchema,
  type ExplainRequest,
  type ExplainResponseSchema,
  RoutingService,
} from "../gen/tollgate/completion/v1/routing_pb.ts";
import { decodeChatRequest } from "../wires/openai-chat.ts";
import { tokenOf } from "./caller.ts";
import type { MasterKey } from "./master-key.ts";

/** What RoutingService asks. Throws GatewayError. */
export interface ExplainGateway {
  explain(ask: ExplainAsk): Promise<Explanation>;
}

/** Adds RoutingService to a router. */
export function explainRoutes(router: ConnectRouter, gateway: ExplainGateway, masterKey: MasterKey): void {
  router.service(RoutingService, {
    async explain(asked, context) {
      const token = tokenOf((name) => context.requestHeader.get(name) || undefined);
      const explanation = await gateway.explain({
        token: keyFor(asked.key, token, masterKey),
        request: requestOf(asked),
        tags: asked.tags,
        isWhole: asked.body !== undefined,
      });
      return answerOf(explanation);
    },
  });
}

/** The key a call would be made with: whoever has it may ask, and so may the master. */
function keyFor(key: string, token: string | undefined, masterKey: MasterKey): string | undefined {
  if (key !== "" && key !== token) masterKey.check(token);
  return key === "" ? token : key;
}

function requestOf({ model, body }: ExplainRequest): CompletionRequest {
  const whole = { messages: [{ role: "user", content: "Hello" }], ...body, model };
  const decoded = decodeChatRequest(Buffer.from(JSON.stringify(whole)));
  if (!(decoded instanceof GatewayError)) return decoded;
  throw new GatewayError("invalid_request", decoded.message, { param: `body.${decoded.facts.param ?? ""}` });
}

function answerOf(explanation: Explanation): MessageInitShape<typeof ExplainResponseSchema> {
  const { keyId, strategy, tags, groups, contextWindowFallbacks, contentPolicyFallbacks } = explanation;
  return {
    ...{ keyId, strategy },
    tags: [...tags],
    groups: groups.map(groupOf),
    contextWindowFallbacks: [...contextWindowFallbacks],
    contentPolicyFallbacks: [...contentPolicyFallbacks],
  };
}

function groupOf(group: ExplainedGroup): MessageInitShape<typeof ExplainedGroupSchema> {
  const { model, modelGroup, retriesMax: retries, refusal } = group;
  const tried = group.tried.map(({ deployment, isProbe, load }) => ({
    deployment: nameOf(deployment),
    ...(deployment.order !== lastOrder && { order: BigInt(deployment.order) }),
    isProbe,
    load: {
      inFlight: BigInt(load.inFlight),
      requests: BigInt(load.requests),
      tokens: BigInt(load.tokens),
      ...(load.msPerOutputToken !== undefined && { msPerOutputToken: load.msPerOutputToken }),
      ...(load.firstTokenMs !== undefined && { firstTokenMs: load.firstTokenMs }),
    },
  }));
  const excluded = group.excluded.map(({ deployment, reason, detail, retryAfterMs }) => ({
    deployment: nameOf(deployment),
    ...{ reason, detail, ...afterOf(retryAfterMs) },
  }));
  if (refusal === undefined) return { model, modelGroup, retries, tried, excluded };
  const { code, message, facts } = refusal;
  return { model, modelGroup, retries, tried, excluded, refusal: { code, message, ...afterOf(facts.retryAfterMs) } };
}

function nameOf({ id, provider, model }: Deployment) {
  return { id, provider, model };
}

function afterOf(ms: number | undefined): { retryAfter?: Duration } {
  return ms === undefined ? {} : { retryAfter: durationFromMs(Math.ceil(ms)) };
}
