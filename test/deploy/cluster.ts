/** `npm run test:kubernetes`: shows deploy/kubernetes to a real API server. The first time it builds one, which takes long. */
import assert from "node:assert/strict";
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createContextValues } from "@connectrpc/connect";
import { parse } from "yaml";
import { systemClock } from "../../src/clock.ts";
import { FileValue } from "../../src/file-value.ts";
import { readIdentityRules } from "../../src/keyservice/identity-rules.ts";
import { SidecarAccess } from "../../src/keyservice/sidecar-access.ts";
import { Secret } from "../../src/secret.ts";
import { ApiServer } from "./api-server.ts";
import { goModule } from "./go-tools.ts";
import { type Container, type Manifest, type PodSpec, podTemplateOf, rendered, renderings } from "./manifests.ts";

const namespace = "example";

let server: ApiServer;
before(async () => {
  server = await ApiServer.start();
});
after(() => server.stop());

test("an API server takes every manifest, and none with a field it does not know", async () => {
  const crds = join(goModule("prometheusOperator"), "example/prometheus-operator-crd");
  for (const file of globSync("*_{servicemonitors,podmonitors,prometheusrules}.yaml", { cwd: crds })) {
    const { status, body } = await server.apply(parse(readFileSync(join(crds, file), "utf8")));
    assert.ok(status < 300, body.message);
  }
  const manifests = renderings.flatMap((name) =>
    // What a Job makes can never be changed: each rendering's is another.
    rendered(name).map((each) => (each.kind === "Job" ? named(`${each.metadata.name}-${name}`, each) : each)),
  );
  for (const manifest of manifests) {
    const { status, body } = await server.apply(manifest);
    assert.ok(status < 300, `${manifest.kind} ${manifest.metadata.name}: ${body.message}`);
    const strange = { ...manifest, spec: { ...manifest.spec, sepc: 1 } };
    const refusal = await server.apply(strange, { dryRun: true });
    assert.ok(refusal.status >= 400, `${manifest.kind}: ${refusal.body.message}`);
  }
});

test("the restricted profile lets in every pod that the workloads make, and no other", async () => {
  for (const workload of renderings.flatMap(rendered)) {
    const template = podTemplateOf(workload);
    if (template === undefined) continue;
    const { status, body } = await server.create(pod(workload.metadata.namespace ?? "", template.spec));
    assert.equal(status, 201, `${workload.kind} ${workload.metadata.name}: ${body.message}`);
  }
  // The sidecar says for itself that it is not root; the example's own containers leave that to their pod.
  const { status, body } = await server.create(pod(namespace, { ...someSpec(), securityContext: {} }));
  assert.equal(status, 403);
  assert.match(body.message ?? "", /violates PodSecurity "restricted:.*runAsNonRoot != true/);
});

test("a pod is known to the KeyService by the token its service account has for it, and by no other", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "tollgate-identities-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const file = (name: string) => join(directory, name);
  const table = rendered("keyservice").find(({ metadata }) => metadata.name === "tollgate-identities");
  const text = table?.data?.["identities.yaml"] ?? "";
  const places = {
    "https://kubernetes.default.svc/": `${server.url}/`,
    "/var/run/kubernetes/ca.crt": server.caFile,
    "/var/run/kubernetes/token": file("token"),
  };
  const moved = Object.entries(places).reduce((each, [from, to]) => each.replace(from, to), text);
  for (const place of Object.values(places)) assert.ok(moved.includes(place));
  writeFileSync(file("identities.yaml"), moved);
  writeFileSync(file("token"), await server.token({ namespace: "tollgate", name: "tollgate-keyservice" }, undefined));
  const faults: string[] = [];
  const parts = { clock: systemClock, onError: ({ message }: Error) => void faults.push(message) };
  const read = ([content]: readonly Buffer[]) => readIdentityRules("identities.yaml", String(content));
  const access = new SidecarAccess({
    ...{ ...parts, runtimeToken: new Secret("nobody-has-this"), masterKey: undefined },
    rules: new FileValue({ ...parts, files: [file("identities.yaml")], read }),
  });
  const identify = (token: string) => {
    const requestHeader = new Headers({ authorization: `Bearer ${token}` });
    return access.identify({ values: createContextValues(), requestHeader });
  };

  const gateway = rendered("gateway").find(({ kind }) => kind === "Deployment") as Manifest;
  const gatewaySpec = podTemplateOf(gateway)?.spec as PodSpec;
  const account = { namespace: "tollgate", name: gatewaySpec.serviceAccountName ?? "" };
  const { status, body: gatewayPod } = await server.apply(named("kept-pod", pod(account.namespace, gatewaySpec)));
  assert.ok(status < 300, gatewayPod.message);
  const audience = readIdentityRules("identities.yaml", text).tokens?.audience;

  const token = await server.token(account, audience, gatewayPod);
  const caller = await identify(token);
  assert.deepEqual(faults, []);
  assert.deepEqual([caller.name, caller.teams], ["tollgate/tollgate-gateway", "all"]);
  assert.ok(caller.podNames?.includes(`tollgate/${gatewayPod.metadata.name}`), "what TOLLGATE_POD_ID says");

  const toldApart = await server.token(account, undefined, gatewayPod);
  assert.equal(await server.nameOf(toldApart), "system:serviceaccount:tollgate:tollgate-gateway");
  assert.equal(await server.nameOf(token), undefined, "the Kubernetes API does not take it");
  await assert.rejects(identify(toldApart), /The token is for another audience/);
  await assert.rejects(identify(await server.token(account, audience)), /The token is not bound to a pod/);
  const other = { namespace, name: "default" };
  await server.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: other });
  const { body: otherPod } = await server.apply(named("kept-pod", pod(namespace, withoutSidecar(someSpec()))));
  await assert.rejects(
    server.token(other, audience, otherPod).then(identify),
    /No rule lets service account default of namespace example be a sidecar/,
  );
});

test("the admission policy gives a pod what the component gives workloads, and shows its containers the way", async () => {
  const asking = { "tollgate.dev/inject": "true" };
  const byComponent = podSpecOf(await server.create(pod(namespace, someSpec())));
  const bare = withoutSidecar(someSpec());
  // A policy acts some seconds after it was made.
  let byPolicy = podSpecOf(await server.create(pod(namespace, bare, asking)));
  for (let tries = 0; tries < 60 && byPolicy.initContainers?.[0]?.name !== "tollgate"; tries++) {
    await sleep(500);
    byPolicy = podSpecOf(await server.create(pod(namespace, bare, asking)));
  }

  assert.deepEqual(
    byPolicy.initContainers?.map(({ name }) => name),
    byComponent.initContainers?.map(({ name }) => name),
  );
  assert.deepEqual(byPolicy.initContainers?.[0], byComponent.initContainers?.[0]);
  assert.deepEqual(byPolicy.volumes, byComponent.volumes);
  for (const { env = [] } of [...(byPolicy.initContainers ?? []).slice(1), ...byPolicy.containers]) {
    const addresses = env.filter(({ value }) => value !== undefined).map(({ name, value }) => `${name}=${value}`);
    assert.deepEqual(addresses.sort(), [
      "ANTHROPIC_BASE_URL=http://127.0.0.1:4000",
      "OPENAI_API_BASE=http://127.0.0.1:4000/v1",
      "OPENAI_BASE_URL=http://127.0.0.1:4000/v1",
    ]);
  }
});

test("the admission policy has sidecars ask a KeyService over TLS as the component tls has them", async () => {
  const asking = { "tollgate.dev/inject": "true" };
  const byComponent = podSpecOf(await server.create(pod(namespace, someSpec("examples-tls"))));
  const injection = rendered("admission").find(({ kind }) => kind === "ConfigMap") as Manifest;
  const keyserviceUrl = byComponent.initContainers?.[0]?.env?.find(({ name }) => name === "KEYSERVICE_URL")?.value;
  assert.match(keyserviceUrl ?? "", /^https:/);
  await server.apply({ ...injection, data: { ...injection.data, ...(keyserviceUrl && { keyserviceUrl }) } });
  const bare = withoutSidecar(someSpec());
  let byPolicy = podSpecOf(await server.create(pod(namespace, bare, asking)));
  for (let tries = 0; tries < 60 && !JSON.stringify(byPolicy).includes("https:"); tries++) {
    await sleep(500);
    byPolicy = podSpecOf(await server.create(pod(namespace, bare, asking)));
  }
  const sorted = <Item extends { readonly name: string }>(items: readonly Item[] = []) =>
    [...items].sort((one, other) => one.name.localeCompare(other.name));
  const inOrder = ({ initContainers: [first] = [], volumes }: PodSpec) => ({
    sidecar: { ...first, env: sorted(first?.env), volumeMounts: sorted(first?.volumeMounts) },
    volumes: sorted(volumes),
  });
  assert.deepEqual(inOrder(byPolicy), inOrder(byComponent));
  await server.apply(injection);
});

test("the admission policy leaves alone what says otherwise, what has a sidecar, and what asks for none", async () => {
  const asking = { "tollgate.dev/inject": "true" };
  const own = { name: "OPENAI_BASE_URL", value: "http://elsewhere/v1" };
  const bare = withoutSidecar(someSpec());
  const [container, ...others] = bare.containers as readonly [Container, ...Container[]];
  const saying = { ...bare, containers: [{ ...container, env: [own] }, ...others] };
  const [changed] = podSpecOf(await server.create(pod(namespace, saying, asking))).containers;
  assert.deepEqual(
    changed?.env?.find(({ name }) => name === own.name),
    own,
  );

  const twice = podSpecOf(await server.create(pod(namespace, someSpec(), asking)));
  assert.equal(twice.initContainers?.filter(({ name }) => name === "tollgate").length, 1);

  const silent = podSpecOf(await server.create(pod(namespace, bare)));
  assert.deepEqual(
    silent.initContainers?.map(({ name }) => name),
    bare.initContainers?.map(({ name }) => name),
  );
});

/** The pods of the example that has an init container of its own, with the component's sidecar. */
function someSpec(rendering = "examples"): PodSpec {
  const deployment = rendered(rendering).find(
    ({ kind, metadata }) => kind === "Deployment" && metadata.name === "chat",
  );
  const spec = deployment && podTemplateOf(deployment)?.spec;
  assert.ok(spec);
  return spec;
}

/** As it was before the component came. */
function withoutSidecar(spec: PodSpec): PodSpec {
  const isOurs = ({ name }: { readonly name: string }) => name.startsWith("tollgate");
  const plain = (containers: readonly Container[]) => containers.map(({ envFrom, ...container }) => container);
  return {
    ...spec,
    initContainers: plain((spec.initContainers ?? []).filter((container) => !isOurs(container))),
    containers: plain(spec.containers),
    volumes: (spec.volumes ?? []).filter((volume) => !isOurs(volume)),
  };
}

function pod(inNamespace: string, spec: PodSpec, labels: Readonly<Record<string, string>> = {}): Manifest {
  const metadata = { name: "some-pod", namespace: inNamespace, labels };
  // Which account it is unless it says so is filled in by what does not run here.
  const whole = { serviceAccountName: "default", ...spec };
  return { apiVersion: "v1", kind: "Pod", metadata, spec: whole } as unknown as Manifest;
}

/** What is only tried may not have the name of what is kept. */
function named(name: string, manifest: Manifest): Manifest {
  return { ...manifest, metadata: { ...manifest.metadata, name } };
}

function podSpecOf({ status, body }: { status: number; body: Manifest & { message?: string } }): PodSpec {
  assert.equal(status, 201, body.message);
  return body.spec as unknown as PodSpec;
}
