/** `npm run test:image`: builds the image of `deploy/Dockerfile` and runs its programs. It takes minutes, and root. */
import assert from "node:assert/strict";
import { globSync, lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import { parse } from "yaml";
import { masterKey } from "../e2e/stack.ts";
import { freePort } from "../free-port.ts";
import { testDatabaseUrl } from "../postgres.ts";
import { BuiltImage, type Container } from "./built-image.ts";

/** Laid out; a registry holds it compressed. */
const bytesMax = 200_000_000;

let image: BuiltImage;
before(() => {
  image = BuiltImage.build();
});
after(() => image.remove());

test("the image has no shell and no package manager, and no file that makes anybody root", () => {
  const programs = paths("**/{bin,sbin}/*").map((path) => path.slice(image.files.length));
  assert.deepEqual(programs.filter((path) => !path.startsWith("/app/")).sort(), ["/usr/bin/node", "/usr/bin/tollgate"]);
  const strange = paths("**/{sh,bash,dash,busybox,apt,apt-get,dpkg,apk,npm,npx,corepack,yarn}");
  assert.deepEqual(
    strange.filter((path) => lstatSync(path).isFile()),
    [],
  );
  const privileged = paths("**/*").filter((path) => (lstatSync(path).mode & 0o6000) !== 0);
  assert.deepEqual(privileged, []);
});

test("nothing in the image but its data directory and /tmp can be written by its user", () => {
  const writable = paths("**/*").filter((path) => {
    const { uid, gid, mode } = lstatSync(path);
    return uid === 65532 || gid === 65532 || ((mode & 0o002) !== 0 && !lstatSync(path).isSymbolicLink());
  });
  assert.deepEqual(writable.map((path) => path.slice(image.files.length)).sort(), ["/tmp", "/var/lib/tollgate"]);
});

test("the image is run as a user who is not root, and says how its health is asked", () => {
  const { User, Entrypoint, Cmd, Healthcheck, Labels } = image.config;
  assert.equal(User, "65532:65532");
  assert.deepEqual([...Entrypoint, ...Cmd], ["/usr/bin/tollgate", "sidecar"]);
  assert.deepEqual(Healthcheck.Test, ["CMD", "/usr/bin/tollgate", "health", "sidecar"]);
  assert.equal(Labels["org.opencontainers.image.licenses"], "Apache-2.0");
});

test("the SBOM lists the packages that are in the image, and Node", () => {
  const { bomFormat, components } = JSON.parse(readFileSync(join(image.files, "app/sbom.cdx.json"), "utf8")) as {
    bomFormat: string;
    components: readonly { purl: string }[];
  };
  assert.equal(bomFormat, "CycloneDX");
  const bundled = JSON.parse(readFileSync(join(image.files, "app/packages.json"), "utf8")) as {
    name: string;
    version: string;
  }[];
  const packages = bundled.map(({ name, version }) => `pkg:npm/${name.replace("@", "%40")}@${version}`);
  for (const name of ["undici", "ioredis", "pg", "zod"])
    assert.ok(
      bundled.some((one) => one.name === name),
      name,
    );
  assert.equal(paths("app/node_modules").length, 0);
  const node = `pkg:npm/node-${process.platform}-${process.arch}@${process.versions.node}`;
  assert.deepEqual(components.map(({ purl }) => purl).sort(), [...new Set([...packages, node])].sort());
});

test("the licences of all packages in the image are in it", () => {
  const licences = readFileSync(join(image.files, "app/THIRD-PARTY-LICENSES.txt"), "utf8");
  const bundled = JSON.parse(readFileSync(join(image.files, "app/packages.json"), "utf8")) as { name: string }[];
  for (const { name } of bundled) assert.match(licences, new RegExp(`^${name} \\d.* \\(.+\\)\\n\\n\\S`, "m"), name);
});

test("the image is small", () => {
  const bytes = paths("**/*").reduce((sum, path) => sum + (lstatSync(path).isFile() ? lstatSync(path).size : 0), 0);
  process.stdout.write(`the image has ${(bytes / 1e6).toFixed(0)} MB\n`);
  assert.ok(bytes < bytesMax, `${bytes} bytes`);
});

test("both programs run with a read-only root and no privileges, answer a call, and end when they are told to", async (context) => {
  const database = await testDatabaseUrl();
  const containers: Container[] = [];
  context.after(async () => {
    for (const container of containers) await container.stop("SIGKILL");
    await database.drop();
  });
  const [keyservicePort, port, adminPort] = [await freePort(), await freePort(), await freePort()];
  const start = (args: readonly string[], env: Readonly<Record<string, string>>): Container => {
    const container = image.start(args, {
      TOLLGATE_KEYSERVICE_PORT: String(keyservicePort),
      TOLLGATE_PORT: String(port),
      TOLLGATE_ADMIN_PORT: String(adminPort),
      ...env,
    });
    containers.push(container);
    return container;
  };
  const keyService = start(["keyservice"], { ...composed("keyservice"), DATABASE_URL: database.url });
  const sidecar = start(["sidecar", "--config=/app/deploy/config.demo.yaml"], {
    ...composed("sidecar"),
    KEYSERVICE_URL: `http://127.0.0.1:${keyservicePort}`,
    REDIS_HOST: "",
  });
  await healthy(() => start(["health", "keyservice"], {}), keyService);
  await healthy(() => start([...image.config.Healthcheck.Test.slice(2)], {}), sidecar);

  assert.match(statusOf(sidecar.pid), /^Uid:\s65532\s/m);
  for (const set of ["CapPrm", "CapEff", "CapInh", "CapAmb"])
    assert.match(statusOf(sidecar.pid), new RegExp(`^${set}:\\s0+$`, "m"));
  assert.match(statusOf(sidecar.pid), /^NoNewPrivs:\s1$/m);

  const made = await fetch(`http://127.0.0.1:${keyservicePort}/key/generate`, {
    method: "POST",
    headers: { authorization: `Bearer ${masterKey}`, "content-type": "application/json" },
    body: JSON.stringify({ max_budget: 1 }),
  });
  const { key } = (await made.json()) as { key: string };
  const client = new OpenAI({ apiKey: key, baseURL: `http://127.0.0.1:${port}/v1` });
  const answer = await client.chat.completions.create({
    model: "demo",
    messages: [{ role: "user", content: "Hello" }],
  });
  assert.equal(answer.choices[0]?.message.content, "Hello from Tollgate. This answer was metered and billed.");

  // What deploy/kubernetes asks for each.
  for (const [name, { pid }, bytesMax] of [
    ["sidecar", sidecar, 192 * 2 ** 20],
    ["KeyService", keyService, 0.8 * 384 * 2 ** 20],
  ] as const) {
    const bytes = 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(statusOf(pid))?.[1]);
    process.stdout.write(`the ${name} has ${(bytes / 2 ** 20).toFixed(0)} MiB resident after its first calls\n`);
    assert.ok(bytes < bytesMax, `${name}: ${bytes}`);
  }
  assert.equal(await sidecar.stop(), 0, sidecar.output);
  assert.equal(await keyService.stop(), 0, keyService.output);
  const unhealthy = start(["health", "sidecar"], {});
  assert.equal(await unhealthy.ended(), 1);
});

/** What deploy/compose.yaml gives a service, with secrets for its placeholders. */
function composed(service: "keyservice" | "sidecar"): Record<string, string> {
  const secrets: Readonly<Record<string, string>> = {
    LITELLM_MASTER_KEY: masterKey,
    LITELLM_SALT_KEY: "pepper-of-the-tests",
    TOLLGATE_KEYSERVICE_TOKEN: "token-of-the-tests",
  };
  const file = new URL("../../deploy/compose.yaml", import.meta.url);
  const { environment } = parse(readFileSync(file, "utf8"), { merge: true }).services[service];
  return Object.fromEntries(
    Object.entries(environment as Record<string, string>).map(([name, value]) => [
      name,
      value.replace(/\$\{(\w+)[^}]*\}/g, (_, placeholder: string) => secrets[placeholder] ?? ""),
    ]),
  );
}

/** Paths in the image, with the image's root before them. */
function paths(pattern: string): string[] {
  return globSync(pattern, { cwd: image.files }).map((path) => join(image.files, path));
}

function statusOf(pid: number): string {
  return readFileSync(`/proc/${pid}/status`, "utf8");
}

/** Waits until the image's own health check is content. */
async function healthy(check: () => Container, program: Container): Promise<void> {
  for (let tries = 0; tries < 60; tries++) {
    if ((await check().ended()) === 0) return;
    await sleep(500);
  }
  assert.fail(`It did not become healthy: ${program.output}`);
}
