import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse, stringify } from "yaml";
import { kustomizationDirectory } from "./manifests.ts";

const prometheus = fileURLToPath(new URL("../../deploy/prometheus", import.meta.url));

/** Where the Prometheus operator's object is. */
export const rulesFile = join(kustomizationDirectory("monitoring"), "rules.yaml");

/** The rules of deploy/prometheus as the Prometheus operator takes them: an object may not name files. */
export function rulesManifest(): string {
  const groups = ["recording.yaml", "alerts.yaml"].flatMap(
    (file) => parse(readFileSync(join(prometheus, file), "utf8")).groups as object[],
  );
  const manifest = {
    apiVersion: "monitoring.coreos.com/v1",
    kind: "PrometheusRule",
    metadata: { name: "tollgate" },
    spec: { groups },
  };
  return `# Made of deploy/prometheus by npm run generate:manifests.\n${stringify(manifest, { lineWidth: 0 })}`;
}
