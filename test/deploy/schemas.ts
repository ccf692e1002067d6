import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv, type ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import { parse } from "yaml";
import { goModule } from "./go-tools.ts";
import type { Manifest } from "./manifests.ts";

type Schema = Record<string, unknown>;

/**
 * Says what is wrong with manifests, by the types that Kubernetes and the Prometheus operator publish. A field they do not have is
 * wrong too: an API server would drop it without a word.
 */
export class ManifestSchemas {
  readonly #ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  readonly #known = new Map<string, ValidateFunction>();

  constructor() {
    const openapi = join(goModule("kubernetes"), "api/openapi-spec/v3");
    for (const file of globSync("{api__v1,apis__*__v[0-9]}_openapi.json", { cwd: openapi })) {
      const { components } = JSON.parse(readFileSync(join(openapi, file), "utf8")) as {
        components: { schemas: Record<string, Schema> };
      };
      this.#ajv.addSchema(closed({ components }) as Schema, file);
      for (const [name, schema] of Object.entries(components.schemas)) {
        for (const { group, version, kind } of kindsOf(schema)) {
          const id = `${group === "" ? "" : `${group}/`}${version} ${kind}`;
          const ref = { $ref: `${file}#/components/schemas/${name}` };
          if (!this.#known.has(id))
            this.#known.set(
              id,
              lazily(() => this.#ajv.compile(ref)),
            );
        }
      }
    }
    const crds = join(goModule("prometheusOperator"), "example/prometheus-operator-crd");
    for (const file of globSync("*.yaml", { cwd: crds })) {
      const { spec } = parse(readFileSync(join(crds, file), "utf8"));
      for (const { name, schema } of spec.versions) {
        const properties = { ...schema.openAPIV3Schema.properties, metadata: {} };
        const whole = closed({ ...schema.openAPIV3Schema, properties }) as Schema;
        this.#known.set(
          `${spec.group}/${name} ${spec.names.kind}`,
          lazily(() => this.#ajv.compile(whole)),
        );
      }
    }
  }

  /** @returns each fault as `kind/name: path what`, none if it is valid. */
  faults(manifest: Manifest): string[] {
    const { apiVersion, kind, metadata } = manifest;
    const validate = this.#known.get(`${apiVersion} ${kind}`);
    if (validate === undefined) return [`${kind}/${metadata.name}: there is no ${kind} in ${apiVersion}`];
    if (validate(manifest)) return [];
    return faultsOf(validate).map((fault) => `${kind}/${metadata.name}: ${fault}`);
  }
}

/** Says what is wrong with a Compose file, by the specification's schema. */
export function composeFaults(file: unknown): string[] {
  const schema = JSON.parse(readFileSync(join(goModule("compose"), "schema/compose-spec.json"), "utf8"));
  const validate = new Ajv2020({ strict: false, validateFormats: false, allErrors: true }).compile(schema);
  return validate(file) ? [] : faultsOf(validate);
}

function faultsOf({ errors }: ValidateFunction): string[] {
  return (errors ?? []).map(({ instancePath, message, params }) => {
    const name = (params as { additionalProperty?: string }).additionalProperty;
    return `${instancePath} ${message}${name === undefined ? "" : `: ${name}`}`;
  });
}

function kindsOf(schema: Schema): readonly { group: string; version: string; kind: string }[] {
  const kinds = schema["x-kubernetes-group-version-kind"];
  return Array.isArray(kinds) ? kinds : [];
}

/** The same schema, where an object has no fields but those that are written down. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== "object" || schema === null) return schema;
  const result = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
  const { properties, additionalProperties, nullable, type } = result;
  const open = additionalProperties !== undefined || result["x-kubernetes-preserve-unknown-fields"] === true;
  if (typeof properties === "object" && !Array.isArray(properties) && !open) result.additionalProperties = false;
  if (result["x-kubernetes-int-or-string"] === true) result.type = ["integer", "string"];
  if (nullable === true && typeof type === "string") result.type = [type, "null"];
  delete result.nullable;
  // Go's way to say that case does not matter, which JavaScript's patterns have no word for.
  if (String(result.pattern).includes("(?i)")) delete result.pattern;
  // A default is no rule, and in this dialect it may not stand beside a reference.
  delete result.default;
  return result;
}

/** Compiling all there is would take long, and few are needed. */
function lazily(compile: () => ValidateFunction): ValidateFunction {
  let compiled: ValidateFunction | undefined;
  const validate = ((data: unknown) => {
    compiled ??= compile();
    const valid = compiled(data);
    validate.errors = compiled.errors ?? null;
    return valid;
  }) as ValidateFunction;
  return validate;
}
