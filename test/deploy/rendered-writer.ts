/**
 * `npm run generate:manifests`: writes the rules of deploy/prometheus as an object for the Prometheus operator, and what kustomize
 * and helm make of deploy/kubernetes and deploy/helm to test/deploy/rendered/, to be looked at and committed.
 */
import { writeFileSync } from "node:fs";
import { renderChart } from "./chart-rendering.ts";
import { kustomize } from "./go-tools.ts";
import { chartValues, kustomizationDirectory, kustomizations, renderedFile } from "./manifests.ts";
import { rulesFile, rulesManifest } from "./rules-manifest.ts";

writeFileSync(rulesFile, rulesManifest());
for (const name of kustomizations) writeFileSync(renderedFile(name), kustomize(kustomizationDirectory(name)));
writeFileSync(renderedFile("chart"), renderChart(chartValues));
