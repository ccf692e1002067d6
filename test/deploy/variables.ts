import { variables } from "../../sidecar/settings.ts";
import { providerRows } from "../../src/config/provider-rows.ts";

const known = new Set([
  ...Object.keys(variables),
  ...[...providerRows.values()].flatMap(({ keyVariables }) => keyVariables),
  // Node's own, and what the manifests make TOLLGATE_POD_ID of.
  ...["NODE_OPTIONS", "POD_NAMESPACE", "POD_NAME"],
]);

const isKnown = (name: string) => known.has(name) || name.startsWith("OTEL_");

/** Those of some variables, or `..._FILE` for them, that the programs never read; OpenTelemetry's own are its specification's. */
export function unknownVariables(names: readonly string[]): string[] {
  return names.filter((name) => ![name, name.replace(/_FILE$/, "")].some(isKnown));
}
