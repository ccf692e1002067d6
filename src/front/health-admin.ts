/** LiteLLM's `GET /health`, for the master key alone: what is known of the deployments, without calling them. */

import type { JsonObject } from "../completion.ts";
import { GatewayError } from "../errors.ts";
import type { DeploymentHealth, HealthReport } from "../routing/health-report.ts";
import type { MasterKey } from "./master-key.ts";

/** Answers how the deployments are. */
export class HealthAdmin {
  readonly #report: Pick<HealthReport, "of">;
  readonly #masterKey: MasterKey;

  constructor({ report, masterKey }: { report: Pick<HealthReport, "of">; masterKey: MasterKey }) {
    this.#report = report;
    this.#masterKey = masterKey;
  }

  /**
   * @param query `model`: the only model to tell of, or the id of a deployment.
   * @throws GatewayError missing_api_key, permission_denied, model_not_found.
   */
  answer(token: string | undefined, query: URLSearchParams): JsonObject {
    this.#masterKey.check(token);
    const model = query.get("model") ?? undefined;
    const known = this.#report.of(model);
    if (model !== undefined && known.length === 0) {
      throw new GatewayError("model_not_found", "There is no such model. See /v1/models.", { param: "model" });
    }
    const healthy = known.filter(({ complaint }) => complaint === undefined);
    const unhealthy = known.filter(({ complaint }) => complaint !== undefined);
    return {
      healthy_endpoints: healthy.map(endpoint),
      unhealthy_endpoints: unhealthy.map(endpoint),
      healthy_count: healthy.length,
      unhealthy_count: unhealthy.length,
    };
  }
}

function endpoint({ deployment, complaint, coolingForMs, checkedAtMs }: DeploymentHealth): JsonObject {
  const { id, modelGroup, provider, model, apiBase } = deployment;
  return {
    model: `${provider}/${model}`,
    model_name: modelGroup,
    model_id: id,
    ...(apiBase !== undefined && { api_base: apiBase }),
    ...(complaint !== undefined && { error: complaint }),
    ...(coolingForMs !== undefined && { cooldown_ms: Math.ceil(coolingForMs) }),
    ...(checkedAtMs !== undefined && { checked_at: new Date(checkedAtMs).toISOString() }),
  };
}
