import type { AnswerStore } from "../cache/answer-store.ts";
import type { Clock, Random } from "../clock.ts";
import { CompletionService } from "../gen/tollgate/completion/v1/completion_pb.ts";
import { RoutingService } from "../gen/tollgate/completion/v1/routing_pb.ts";
import type { HealthReport } from "../routing/health-report.ts";
import type { Secret } from "../secret.ts";
import { Health } from "../server/health.ts";
import { listen } from "../server/listen.ts";
import type { OnBug } from "../server/rpc-handlers.ts";
import type { ServerTls } from "../server/server-tls.ts";
import { CacheAdmin } from "./cache-admin.ts";
import { completionMethods } from "./completion-methods.ts";
import { type ExplainGateway, explainRoutes } from "./connect-explain.ts";
import type { CompletionGateway } from "./doors.ts";
import { HealthAdmin } from "./health-admin.ts";
import { ManagementForwarder } from "./management.ts";
import { MasterKey } from "./master-key.ts";
import { createOpenAiDoor } from "./openai.ts";
import type { StoredResponsesGateway } from "./stored-responses.ts";

/** What the data port serves, and where. */
export interface DataPortOptions {
  readonly gateway: CompletionGateway;
  readonly explainer: ExplainGateway;
  /** Who may ask what is nobody else's business; undefined: nobody. */
  readonly masterKey: Secret | undefined;
  /** Responses that providers keep. */
  readonly storedResponses: StoredResponsesGateway;
  readonly host: string;
  readonly port: number;
  readonly socketPath: string | undefined;
  /** Undefined: plaintext. */
  readonly tls: ServerTls | undefined;
  /** Names it may be asked by; see ListenOptions. */
  readonly hostNames: readonly string[] | undefined;
  readonly bodyBytesMax: number;
  /** The KeyService's HTTP address, if LiteLLM's management paths are to be served here too. */
  readonly managementUrl: string | undefined;
  /** How the deployments are. */
  readonly healthReport: HealthReport;
  /** Kept answers; undefined: none are kept. */
  readonly answers: AnswerStore | undefined;
  readonly version: string;
  readonly ready: () => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly onBug: OnBug;
}

/** An open data port. */
export interface DataPort {
  readonly host: string;
  readonly port: number;
  /** Refuses new calls, waits up to `graceMs` for those in flight. */
  close(graceMs: number): Promise<void>;
}

/** Opens the one port applications talk to: OpenAI's HTTP, and gRPC, gRPC-Web and Connect. */
export async function openDataPort(options: DataPortOptions): Promise<DataPort> {
  const { gateway, explainer, managementUrl, answers, random, bodyBytesMax } = options;
  const management = managementUrl === undefined ? undefined : new ManagementForwarder({ url: managementUrl, random });
  const masterKey = new MasterKey(options.masterKey);
  const cacheAdmin = answers && new CacheAdmin({ store: answers, masterKey });
  const healthAdmin = new HealthAdmin({ report: options.healthReport, masterKey });
  const health = new Health([CompletionService.typeName, RoutingService.typeName]);
  const listener = await listen({
    ...options,
    health,
    services: [CompletionService, RoutingService],
    methods: completionMethods(gateway),
    routes: (router) => explainRoutes(router, explainer, masterKey),
    fallback: createOpenAiDoor({
      ...options,
      management,
      cacheAdmin,
      healthAdmin,
      limits: { bodyBytes: bodyBytesMax },
    }),
    readMaxBytes: bodyBytesMax,
  });
  return {
    host: listener.host,
    port: listener.port,
    close: async (graceMs) => {
      health.drain();
      await listener.close(graceMs);
      await management?.close();
    },
  };
}
