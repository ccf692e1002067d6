/** `npm run generate:manifests`: writes what kustomize makes of deploy/kubernetes to test/deploy/rendered/, to be looked at and committed. */
import { writeFileSync } from "node:fs";
import { kustomize } from "./go-tools.ts";
import { kustomizationDirectory, kustomizations, renderedFile } from "./manifests.ts";

for (const name of kustomizations) writeFileSync(renderedFile(name), kustomize(kustomizationDirectory(name)));
