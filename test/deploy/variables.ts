import { variables } from "../../sidecar/settings.ts";
import { providerRows } from "../../src/config/provider-rows.ts";

const known = new Set([
  ...Object.keys(variables),
  ...[...providerRows.values()].flatMap(({ keyVariables }) => keyVariables),
  // Node's own, and what the manifests make TOLLGATE_POD_ID of.
  ...["NODE_OPTIONS", "POD_NAMESPACE", "POD_NAME"],
]);

/** Those of some variables, or `..._FILE` for them, that the programs never read; OpenTelemetry's own are its specification's. */
export function unknownVariables(names: readonly string[]): string[] {
  return names.filter((name) => !known.has(name.replace(/_FILE$/, "")) && !name.startsWith("OTEL_"));
}
