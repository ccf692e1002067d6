import type { Admission } from "./admission/admission.ts";
import { mayReadMetrics, noMetricsReader } from "./allowed-routes.ts";
import { masterGrant } from "./keys/decisions.ts";

/**
 * Whether the holder of a key may read a sidecar's metrics: the operator may, and whose key was made for it.
 *
 * @throws GatewayError also `permission_denied`.
 */
export async function checkMetricsReader(admission: Pick<Admission, "authenticate">, key: string): Promise<void> {
  const grant = await admission.authenticate(key);
  if (grant !== masterGrant && !mayReadMetrics(grant.policy?.allowedRoutes ?? [])) throw noMetricsReader();
}
