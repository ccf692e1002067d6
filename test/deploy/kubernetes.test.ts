import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";
import { parse } from "yaml";
import { readSettings, variables } from "../../sidecar/settings.ts";
import { readIdentityRules, teamsOf } from "../../src/keyservice/identity-rules.ts";
import { kustomize, skipWithoutGo } from "./go-tools.ts";
import {
  type Container,
  chartDirectory,
  chartValues,
  kustomizationDirectory,
  kustomizations,
  type Manifest,
  manifestsOf,
  podTemplateOf,
  rendered,
  renderedFile,
  renderings,
} from "./manifests.ts";
import { rulesFile, rulesManifest } from "./rules-manifest.ts";
import { ManifestSchemas } from "./schemas.ts";
import { unknownVariables } from "./variables.ts";

const skip = skipWithoutGo();
const all = renderings.flatMap(rendered);
const templates = all.flatMap((manifest) => podTemplateOf(manifest) ?? []);
const containers = templates.flatMap(({ spec }) => [...(spec.initContainers ?? []), ...spec.containers]);
const ours = containers.filter(({ image }) => image.includes("/tollgate@"));

test("what kustomize renders is what was committed", { skip }, () => {
  for (const name of kustomizations) {
    const yaml = kustomize(kustomizationDirectory(name));
    assert.equal(yaml, readFileSync(renderedFile(name), "utf8"), `${name}: see it by npm run generate:manifests`);
  }
});

test("the Prometheus operator's rules are those of deploy/prometheus", () => {
  assert.equal(readFileSync(rulesFile, "utf8"), rulesManifest(), "make them by npm run generate:manifests");
});

test("the chart makes what kustomize makes, but for the namespace", () => {
  const byName = (manifests: readonly Manifest[]) =>
    Object.fromEntries(
      manifests.flatMap((manifest) =>
        manifest.kind === "Namespace" ? [] : [[`${manifest.kind} ${manifest.metadata.name}`, manifest]],
      ),
    );
  const kustomized = (["keyservice", "gateway", "monitoring"] as const).flatMap(rendered);
  assert.deepEqual(byName(rendered("chart")), byName(kustomized));
});

test("the chart's schema takes its own values with a digest, and refuses what it does not know", () => {
  const read = (name: string) => readFileSync(join(chartDirectory, name), "utf8");
  const isTaken = new Ajv({ strict: false }).compile(JSON.parse(read("values.schema.json")));
  const own = parse(read("values.yaml"));
  const image = { ...own.image, ...chartValues.image };
  assert.equal(isTaken({ ...own, image }), true);
  assert.equal(isTaken(own), false, "without a digest");
  assert.equal(isTaken({ ...own, image, gatway: {} }), false);
  assert.equal(isTaken({ ...own, image, keyservice: { ...own.keyservice, replicas: { min: 0 } } }), false);
});

test("every dashboard is in the ConfigMap for Grafana, and small enough for one", { skip }, () => {
  const grafana = fileURLToPath(new URL("../../deploy/grafana", import.meta.url));
  const [map] = manifestsOf(kustomize(grafana));
  const { data = {} } = map as Manifest;
  assert.deepEqual(Object.keys(data).sort(), globSync("*.json", { cwd: join(grafana, "dashboards") }).sort());
  assert.ok(Buffer.byteLength(JSON.stringify(data)) < 1_000_000);
});

test("every manifest is valid by Kubernetes's own types, and has no field they do not know", { skip }, () => {
  const schemas = new ManifestSchemas();
  assert.deepEqual(
    all.flatMap((manifest) => schemas.faults(manifest)),
    [],
  );

  // That the schemas tell wrong from right is shown by some that are wrong.
  const faultsWith = (kind: string, from: string, to: string): string[] => {
    const manifest = all.find((each) => each.kind === kind);
    assert.ok(JSON.stringify(manifest).includes(from), `${kind} has ${from}`);
    return schemas.faults(JSON.parse(JSON.stringify(manifest).replace(from, to)) as Manifest);
  };
  assert.match(faultsWith("Deployment", '"ports"', '"prots"')[0] ?? "", /containers\/0 .*prots/);
  assert.match(faultsWith("Deployment", '"maxSurge":1', '"maxSurge":{}')[0] ?? "", /maxSurge must be/);
  assert.match(faultsWith("HorizontalPodAutoscaler", '"cpu"', "7")[0] ?? "", /name must be string/);
  assert.match(faultsWith("PodMonitor", '"interval"', '"intervall"')[0] ?? "", /intervall/);
  assert.match(faultsWith("NetworkPolicy", "/v1", "/v9")[0] ?? "", /there is no NetworkPolicy/);
});

test("workloads of every kind that ask for a sidecar get it, before their own init containers", () => {
  const asking = rendered("examples").filter((manifest) => podTemplateOf(manifest) !== undefined);
  assert.deepEqual(asking.map(({ kind }) => kind).sort(), ["CronJob", "DaemonSet", "Deployment", "Job", "StatefulSet"]);
  for (const manifest of asking) {
    const template = podTemplateOf(manifest);
    const [first, ...others] = template?.spec.initContainers ?? [];
    assert.equal(first?.name, "tollgate", manifest.kind);
    assert.equal(first?.restartPolicy, "Always", manifest.kind);
    assert.equal(template?.metadata.labels["tollgate.dev/inject"], "true", manifest.kind);
    if (manifest.kind === "Deployment")
      assert.deepEqual(
        others.map(({ name }) => name),
        ["embed-documents"],
      );
  }
});

test("a CronJob's pods get what other workloads' pods get", () => {
  for (const component of ["sidecar", "tls"]) {
    const read = (file: string) => parse(readFileSync(join(kustomizationDirectory(component), file), "utf8"));
    assert.deepEqual(read("cronjob.yaml").spec.jobTemplate.spec.template, read("workload.yaml").spec.template);
  }
});

test("the sidecar's secrets are in no other container, and others know where the sidecar is", () => {
  for (const { spec } of rendered("examples").flatMap((manifest) => podTemplateOf(manifest) ?? [])) {
    const others = [...(spec.initContainers ?? []), ...spec.containers].filter(({ name }) => name !== "tollgate");
    assert.notEqual(others.length, 0);
    for (const { volumeMounts = [], envFrom = [] } of others) {
      assert.deepEqual(
        volumeMounts.filter(({ name }) => name.startsWith("tollgate-")),
        [],
      );
      assert.deepEqual(envFrom, [{ configMapRef: { name: "tollgate-client" } }]);
    }
  }
});

test("images are named by digest, never by a tag that moves", () => {
  for (const { image } of containers) assert.match(image, /^[\w./-]+@sha256:[0-9a-f]{64}$/);
  const [image] = new Set(ours.map(({ image }) => image));
  assert.ok(JSON.stringify(rendered("admission")).includes(`"image":"${image}"`), "the policy's image is the others'");
});

test("every pod passes the restricted profile", () => {
  for (const { spec } of templates) {
    assert.deepEqual(
      (spec.volumes ?? []).filter(({ hostPath }) => hostPath !== undefined),
      [],
    );
    for (const { name, securityContext: own } of [...(spec.initContainers ?? []), ...spec.containers]) {
      assert.equal(own?.allowPrivilegeEscalation, false, name);
      assert.equal(own?.readOnlyRootFilesystem, true, name);
      assert.notEqual(own?.privileged, true, name);
      assert.deepEqual(own?.capabilities, { drop: ["ALL"] }, name);
      assert.equal(own?.runAsNonRoot ?? spec.securityContext?.runAsNonRoot, true, name);
      assert.equal((own?.seccompProfile ?? spec.securityContext?.seccompProfile)?.type, "RuntimeDefault", name);
    }
  }
});

test("every container asks for CPU and memory, and may not take more memory than it says", () => {
  for (const { name, resources } of containers) {
    assert.ok(resources?.requests?.cpu && resources.requests.memory && resources.limits?.memory, name);
    assert.equal(resources.limits.cpu, undefined, `${name}: a throttled gateway is a slow one`);
  }
});

test("nothing is mounted by subPath, which never follows a change", () => {
  const mounts = containers.flatMap(({ volumeMounts = [] }) => volumeMounts);
  assert.deepEqual(
    mounts.filter(({ subPath }) => subPath !== undefined),
    [],
  );
});

test("Tollgate's containers have their secrets in files, variables that the programs read, and probes", () => {
  assert.equal(ours.length, 16);
  for (const container of ours) {
    readSettings(settingsIn(container), "host");
    assert.deepEqual(secretVariables(container), [], container.name);
    assert.deepEqual(unknownVariables((container.env ?? []).map(({ name }) => name)), [], container.name);
    assert.ok(container.startupProbe && container.readinessProbe && container.livenessProbe, container.name);
  }
});

test("every file that Tollgate is told of is in something it mounts", () => {
  for (const { name, env = [], volumeMounts = [] } of ours) {
    const told = env.flatMap(({ value = "" }) => (value.startsWith("/") ? [value] : []));
    assert.notEqual(told.length, 0, name);
    const { tokens } = name === "keyservice" ? identitiesIn("keyservice") : {};
    for (const file of [...told, tokens?.jwks_ca_file ?? told[0], tokens?.jwks_token_file ?? told[0]]) {
      assert.ok(
        volumeMounts.some(({ mountPath }) => file?.startsWith(`${mountPath}/`)),
        `${name}: ${file}`,
      );
    }
  }
});

test("a sidecar has a token that only the KeyService takes, and nobody else in its pod has one", () => {
  const { tokens } = identitiesIn("keyservice");
  for (const { spec } of templates) {
    assert.equal(spec.automountServiceAccountToken, false);
    const carried = (spec.volumes ?? []).flatMap(({ name, projected }) =>
      (projected?.sources ?? []).flatMap(({ serviceAccountToken }) =>
        serviceAccountToken ? [{ name, ...serviceAccountToken }] : [],
      ),
    );
    const [token, ...others] = carried;
    assert.deepEqual(others, []);
    const holders = [...(spec.initContainers ?? []), ...spec.containers].flatMap(
      ({ name, env = [], volumeMounts = [] }) =>
        volumeMounts.flatMap((mount) =>
          mount.name === token?.name ? [{ name, env, mountPath: mount.mountPath }] : [],
        ),
    );
    assert.equal(holders.length, 1);
    const [holder] = holders;
    const file = `${holder?.mountPath}/${token?.path}`;
    if (holder?.name === "keyservice") {
      // The Kubernetes API's own, to ask for its public keys.
      assert.deepEqual([token?.audience, file], [undefined, tokens?.jwks_token_file]);
    } else {
      assert.equal(token?.audience, tokens?.audience);
      assert.equal(holder?.env.find(({ name }) => name === "TOLLGATE_KEYSERVICE_TOKEN_FILE")?.value, file);
    }
  }
});

test("the KeyService's table names the gateway, and applications only as an overlay says", () => {
  const gateway = rendered("gateway").find(({ kind }) => kind === "Deployment");
  const gatewayAccount = {
    namespace: gateway?.metadata.namespace ?? "",
    name: (gateway && podTemplateOf(gateway)?.spec.serviceAccountName) ?? "",
  };
  const application = { namespace: "example", name: "default" };
  assert.equal(teamsOf(gatewayAccount, identitiesIn("keyservice")), "all");
  assert.equal(teamsOf(application, identitiesIn("keyservice")), undefined);
  assert.equal(teamsOf(gatewayAccount, identitiesIn("examples-tls")), "all");
  assert.deepEqual(teamsOf(application, identitiesIn("examples-tls")), new Set(["example"]));
});

test("administration is at a port of its own, and nobody but operators' namespaces reaches that", () => {
  const [keyService] = ours;
  assert.equal(settingsIn(keyService as Container).TOLLGATE_KEYSERVICE_ADMIN_PORT, "4101");
  const policy = rendered("keyservice").find(({ kind }) => kind === "NetworkPolicy") as unknown as {
    spec: { ingress: readonly { ports: readonly { port: string }[]; from: readonly object[] }[] };
  };
  const operators = { namespaceSelector: { matchLabels: { "tollgate.dev/administers": "true" } } };
  const reaching = (port: string) =>
    policy.spec.ingress.filter(({ ports }) => ports.some((each) => each.port === port)).flatMap(({ from }) => from);
  assert.deepEqual(reaching("admin"), [operators]);
  assert.equal(JSON.stringify(reaching("grpc")).includes("administers"), false);
  assert.equal(policy.spec.ingress.length, 2);
});

test("where ports are over TLS, probes, monitors and whoever asks follow", () => {
  const secured = rendered("examples-tls");
  const schemes = secured
    .flatMap((manifest) => podTemplateOf(manifest) ?? [])
    .flatMap(({ spec }) => [...(spec.initContainers ?? []), ...spec.containers])
    .filter(({ image }) => image.includes("/tollgate@"))
    .map(({ name, env = [], startupProbe, readinessProbe, livenessProbe }) => {
      const probes = [startupProbe, readinessProbe, livenessProbe].map((probe) => probe?.httpGet?.scheme ?? "HTTP");
      const url = env.find((each) => each.name === "KEYSERVICE_URL")?.value ?? "";
      return `${name} ${[...new Set(probes)]} ${url.split(":")[0]}`.trim();
    });
  assert.deepEqual([...new Set(schemes)].sort(), ["gateway HTTPS https", "keyservice HTTPS", "tollgate HTTP https"]);
  const monitors = secured.filter(({ kind }) => kind.endsWith("Monitor"));
  assert.deepEqual(monitors.map((monitor) => /"serverName":"([^"]+)"/.exec(JSON.stringify(monitor))?.[1]).sort(), [
    "tollgate-gateway.tollgate.svc",
    "tollgate-keyservice.tollgate.svc",
    undefined,
  ]);
});

/** The table of a rendering's KeyService. */
function identitiesIn(name: string) {
  const map = rendered(name).find(({ metadata }) => metadata.name === "tollgate-identities");
  return readIdentityRules("identities.yaml", map?.data?.["identities.yaml"] ?? "");
}

/** A container's variables, but for those that would have the program read a secret's file. */
function settingsIn({ env = [] }: Container): Readonly<Record<string, string>> {
  const given = env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value] as const]));
  return Object.fromEntries(
    given.filter(([name]) => !Object.hasOwn(variables, name.replace(/_FILE$/, "")) || !name.endsWith("_FILE")),
  );
}

/** Variables whose value is a secret, or comes from one. */
function secretVariables({ env = [], envFrom = [] }: Container): string[] {
  const named = /(?:KEY|TOKEN|PASSWORD|SECRET|DATABASE_URL)$/;
  const wrong = env.filter(
    ({ name, valueFrom }) => named.test(name) || JSON.stringify(valueFrom ?? {}).includes("secret"),
  );
  return [...wrong.map(({ name }) => name), ...(JSON.stringify(envFrom).includes("secret") ? ["envFrom"] : [])];
}
