/** `npm run test:kubernetes`: renders the chart of deploy/helm with the real helm, which is built the first time. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import { renderChart } from "./chart-rendering.ts";
import { helm } from "./go-tools.ts";
import { chartDirectory, chartValues, type Manifest, manifestsOf, podTemplateOf, renderedFile } from "./manifests.ts";

const { image } = chartValues;

test("what helm renders is what was committed", () => {
  assert.equal(renderChart(chartValues), readFileSync(renderedFile("chart"), "utf8"), "npm run generate:manifests");
});

test("helm finds nothing wrong with the chart", () => {
  const said = helm(["lint", "--strict", chartDirectory, `--set-json=image=${JSON.stringify(image)}`]);
  assert.match(said, /1 chart\(s\) linted, 0 chart\(s\) failed/);
});

test("it renders nothing without a digest, and nothing with a value it does not know", () => {
  assert.throws(() => renderChart({}), /digest/);
  assert.throws(() => renderChart({ image: { digest: "latest" } }), /digest/);
  assert.throws(() => renderChart({ image, keyservice: { secretName: "x" } }), /secretName/);
});

test("gateway and monitors come when they are asked for", () => {
  const kinds = manifestsOf(renderChart({ image })).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  assert.ok(kinds.every((kind) => !/gateway|Monitor|Rule/.test(kind)));
  assert.ok(kinds.includes("Deployment tollgate-keyservice"));
});

test("values reach what they are for, in the release's own namespace", () => {
  const of = { cpu: "1", memory: "1Gi" };
  const database = [{ ipBlock: { cidr: "10.9.0.0/24" } }];
  const made = manifestsOf(
    renderChart(
      {
        image: { ...image, repository: "own.example/tollgate" },
        keyservice: {
          ...{
            secret: "own-keyservice",
            resources: { requests: of },
            replicas: { min: 2, max: 4 },
            databaseAt: database,
          },
          identities: { shared_token: true, sidecars: [] },
          config: { litellm_settings: { timezone: "Europe/Berlin" } },
          env: [
            { name: "STORE_MODEL_IN_DB", value: "true" },
            { name: "TOLLGATE_GRACE_S", value: "20" },
          ],
        },
        gateway: { enabled: true, secret: "own-gateway", config: { model_list: [] } },
      },
      "models",
    ),
  );
  const find = (kind: string, name: string): Manifest => {
    const found = made.find((each) => each.kind === kind && each.metadata.name === name);
    return found ?? assert.fail(`${kind} ${name}`);
  };
  assert.ok(made.every(({ metadata }) => metadata.namespace === "models"));
  const [keyService, gateway] = ["tollgate-keyservice", "tollgate-gateway"].map((name) => {
    const spec = podTemplateOf(find("Deployment", name))?.spec;
    const secrets = spec?.volumes?.find((volume) => volume.name === "secrets");
    return { secrets, container: spec?.containers[0] ?? assert.fail(name) };
  });
  assert.deepEqual(keyService?.secrets?.secret, { secretName: "own-keyservice", defaultMode: 0o444 });
  assert.deepEqual(gateway?.secrets?.secret, { secretName: "own-gateway", defaultMode: 0o444 });
  const { container } = keyService ?? assert.fail();
  assert.equal(container.image, `own.example/tollgate@${image.digest}`);
  assert.deepEqual(container.resources, { requests: of, limits: { memory: "640Mi" } });
  const values = (name: string) => container.env?.filter((each) => each.name === name).map(({ value }) => value);
  assert.deepEqual(values("STORE_MODEL_IN_DB"), ["true"]);
  assert.deepEqual(values("TOLLGATE_GRACE_S"), ["20"]);
  assert.deepEqual(values("TOLLGATE_CONFIG"), ["/etc/tollgate/config.yaml"]);
  const url = gateway?.container.env?.find(({ name }) => name === "KEYSERVICE_URL");
  assert.equal(url?.value, "http://tollgate-keyservice.models.svc:4100");
  const { data = {} } = find("ConfigMap", "tollgate-identities");
  assert.deepEqual(parse(data["identities.yaml"] ?? ""), { shared_token: true, sidecars: [] });
  assert.deepEqual(parse(data["config.yaml"] ?? ""), { litellm_settings: { timezone: "Europe/Berlin" } });
  assert.deepEqual(parse(find("ConfigMap", "tollgate-config").data?.["config.yaml"] ?? ""), { model_list: [] });
  const scale = find("HorizontalPodAutoscaler", "tollgate-keyservice").spec as { minReplicas?: number } | undefined;
  assert.equal(scale?.minReplicas, 2);
  assert.match(
    JSON.stringify(find("NetworkPolicy", "tollgate-keyservice")),
    /"to":\[\{"ipBlock":\{"cidr":"10.9.0.0\/24"/,
  );
});
