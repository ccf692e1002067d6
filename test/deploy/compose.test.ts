import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { readSettings } from "../../sidecar/settings.ts";
import { runProgram } from "../prometheus.ts";
import { skipWithoutGo } from "./go-tools.ts";
import { composeFaults } from "./schemas.ts";
import { unknownVariables } from "./variables.ts";

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
}

const directory = fileURLToPath(new URL("../../deploy/", import.meta.url));
const text = readFileSync(`${directory}compose.yaml`, "utf8");
const file = parse(text, { merge: true }) as { services: Record<string, Service>; volumes: Record<string, unknown> };
const services = Object.entries(file.services);
const example = readFileSync(`${directory}.env.example`, "utf8");

test("compose.yaml is valid by the specification's schema, which refuses what it does not know", {
  skip: skipWithoutGo(),
}, () => {
  assert.deepEqual(composeFaults(file), []);
  const wrong = structuredClone(file) as unknown as { services: { redis: Record<string, unknown> } };
  wrong.services.redis.healthchek = {};
  assert.match(composeFaults(wrong).join(), /\/services\/redis must NOT have/);
});

test("every variable compose.yaml needs is in .env.example, with no value where it is a secret", () => {
  const used = new Set([...text.matchAll(/\$\{(\w+)/g)].map(([, name]) => name));
  const offered = [...example.matchAll(/^(\w+)=(.*)$/gm)];
  assert.deepEqual(offered.map(([, name]) => name).sort(), [...used].sort());
  assert.deepEqual([...new Set(offered.map(([, , value]) => value))], [""]);
  // A secret that is not set stops everything, rather than being empty.
  for (const name of used) {
    if (/(?:PASSWORD|TOKEN|MASTER_KEY|SALT_KEY)$/.test(name ?? "")) assert.match(text, new RegExp(`\\$\\{${name}:\\?`));
  }
});

test("every service is waited for by its health, and the programs ask Tollgate's own way", () => {
  const without = services.filter(([, { healthcheck }]) => healthcheck === undefined).map(([name]) => name);
  assert.deepEqual(without, ["otel-collector"]);
  for (const [name, { depends_on = {} }] of services) {
    for (const [other, { condition }] of Object.entries(depends_on)) {
      assert.equal(condition, "service_healthy", `${name} on ${other}`);
      assert.ok(file.services[other]?.healthcheck, other);
    }
  }
  assert.deepEqual(file.services.sidecar?.healthcheck?.test.slice(1), ["/usr/bin/tollgate", "health", "sidecar"]);
});

test("what the services mount is there", () => {
  const sources = services.flatMap(([, { volumes = [] }]) =>
    volumes.map((volume) => volume.replace(/^\$\{\w+:-(.*?)\}/, "$1").split(":")[0]),
  );
  const named = Object.keys(file.volumes);
  const paths = sources.filter((source) => source?.startsWith("./"));
  assert.deepEqual(sources.filter((source) => !source?.startsWith("./")).sort(), named.sort());
  for (const path of paths) assert.ok(existsSync(directory + path), path);
});

test("Alertmanager is where Prometheus looks for it, and finds the secrets of .env where its configuration reads them", (t) => {
  const [name, port] = alertingTarget();
  const service = file.services[name];
  assert.match(service?.healthcheck?.test.at(-1) ?? "", new RegExp(`:${port}/-/ready$`));
  const folder = mkdtempSync(join(tmpdir(), "tollgate-alertmanager-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "secrets"));
  // The image's shell runs these lines; what they end with is told its flags by one of the family here.
  const [lines = "", command = ""] = (service?.command ?? [])
    .join()
    .replaceAll("$$", "$")
    .replaceAll("/etc/alertmanager", folder)
    .split("exec alertmanager");
  const env = { SLACK_WEBHOOK_URL: "https://hooks.example/$x", PAGERDUTY_ROUTING_KEY: "a key" };
  const { status, stderr } = spawnSync("/bin/sh", ["-c", lines], { env, encoding: "utf8" });
  assert.deepEqual([status, stderr], [0, ""]);
  const routes = readFileSync(`${directory}alertmanager/alertmanager.yaml`, "utf8");
  const read = [...routes.matchAll(/_file: \/etc\/alertmanager\/(.*)/g)].map(([, path = ""]) => path);
  const found = [...new Set(read)].map((path) => [path, readFileSync(join(folder, path), "utf8")]);
  assert.deepEqual(Object.fromEntries(found), {
    "secrets/slack-webhook-url": env.SLACK_WEBHOOK_URL,
    "secrets/pagerduty-routing-key": env.PAGERDUTY_ROUTING_KEY,
  });
  const flags = runProgram("prometheus-alertmanager", ["--help"]).output;
  for (const [flag] of command.matchAll(/--[\w.-]+/g)) assert.ok(flags.includes(`${flag}=`), flag);
  assert.ok(service?.volumes?.includes("./alertmanager:/etc/alertmanager/config:ro"));
  assert.ok(command.includes(`--config.file=${folder}/config/alertmanager.yaml `));
});

/** The service and port that Prometheus sends alerts to. */
function alertingTarget(): [string, string] {
  const { alerting } = parse(readFileSync(`${directory}compose/prometheus.yaml`, "utf8")) as {
    alerting: { alertmanagers: readonly { static_configs: readonly { targets: readonly string[] }[] }[] };
  };
  const [service = "", port = ""] = alerting.alertmanagers[0]?.static_configs[0]?.targets[0]?.split(":") ?? [];
  return [service, port];
}

test("Tollgate's services have a read-only root, no capabilities, and settings that the programs take", () => {
  for (const name of ["keyservice", "sidecar"]) {
    const { environment = {}, read_only, cap_drop } = file.services[name] ?? {};
    assert.equal(read_only, true);
    assert.deepEqual(cap_drop, ["ALL"]);
    assert.deepEqual(unknownVariables(Object.keys(environment)), []);
    const filled = Object.entries(environment).map(([variable, value]) => [
      variable,
      value.replace(/\$\{[^}]*\}/g, "x"),
    ]);
    readSettings(Object.fromEntries(filled), "host");
  }
});

test("images have a version, and no port is open to more than this machine", () => {
  for (const [name, { image, ports = [] }] of services) {
    assert.match(image, /^(?:[\w./-]+:v?\d[\w.-]+|\$\{TOLLGATE_IMAGE:-tollgate:local\})$/, name);
    for (const port of ports) assert.match(port, /^127\.0\.0\.1:/);
  }
});
