import { helm } from "./go-tools.ts";
import { chartDirectory } from "./manifests.ts";

/** What the real helm makes of the chart, with these values in the place of its own. @throws Error with what helm said. */
export function renderChart(values: object, namespace = "tollgate"): string {
  const given = Object.entries(values).map(([key, value]) => `--set-json=${key}=${JSON.stringify(value)}`);
  return helm(["template", "tollgate", chartDirectory, `--namespace=${namespace}`, ...given]);
}
