/** Of npm's SBOM, the packages that are in a bundle, and Node: `npm sbom --sbom-format=cyclonedx | node deploy/sbom.mjs BUNDLE`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const [bundle = ""] = process.argv.slice(2);
const sbom = JSON.parse(readFileSync(0, "utf8"));
const packages = JSON.parse(readFileSync(join(bundle, "packages.json"), "utf8"));
const bundled = new Set(packages.map(({ name, version }) => `${name}@${version}`));
const isThere = ({ name, version }) =>
  bundled.has(`${name}@${version}`) || name === `node-${process.platform}-${process.arch}`;
const components = sbom.components.filter(isThere);
const refs = new Set([sbom.metadata.component["bom-ref"], ...components.map((component) => component["bom-ref"])]);
const dependencies = sbom.dependencies
  .filter(({ ref }) => refs.has(ref))
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((other) => refs.has(other)) }));
process.stdout.write(`${JSON.stringify({ ...sbom, components, dependencies }, undefined, 2)}\n`);
