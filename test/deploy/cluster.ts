/** `npm run test:kubernetes`: shows deploy/kubernetes to a real API server. The first time it builds one, which takes long. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "yaml";
import { ApiServer } from "./api-server.ts";
import { goModule } from "./go-tools.ts";
import { type Container, kustomizations, type Manifest, type PodSpec, podTemplateOf, rendered } from "./manifests.ts";

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
  for (const manifest of kustomizations.flatMap(rendered)) {
    const { status, body } = await server.apply(manifest);
    assert.ok(status < 300, `${manifest.kind} ${manifest.metadata.name}: ${body.message}`);
    const strange = { ...manifest, spec: { ...manifest.spec, sepc: 1 } };
    const refusal = await server.apply(strange, { dryRun: true });
    assert.ok(refusal.status >= 400, `${manifest.kind}: ${refusal.body.message}`);
  }
});

test("the restricted profile lets in every pod that the workloads make, and no other", async () => {
  const workloads = ["keyservice", "gateway", "examples"].flatMap(rendered);
  for (const workload of workloads) {
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
function someSpec(): PodSpec {
  const deployment = rendered("examples").find(({ kind }) => kind === "Deployment");
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
  return { apiVersion: "v1", kind: "Pod", metadata, spec } as unknown as Manifest;
}

function podSpecOf({ status, body }: { status: number; body: Manifest & { message?: string } }): PodSpec {
  assert.equal(status, 201, body.message);
  return body.spec as unknown as PodSpec;
}
