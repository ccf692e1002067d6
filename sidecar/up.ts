import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Closers, Secret } from "../src/index.ts";
import { readConfig } from "./config-file.ts";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";
import { startKeyService } from "./keyservice.ts";
import type { Settings } from "./settings.ts";
import { startSidecar } from "./sidecar.ts";
import type { Sidecar } from "./sidecar-handle.ts";

const demoConfig = fileURLToPath(new URL("../deploy/config.demo.yaml", import.meta.url));

/**
 * `tollgate up`: the KeyService and a sidecar in one process, for one machine and for the first minute. They talk over a real
 * socket, as they do apart. What the configuration does not name is embedded: PostgreSQL, in-memory counters, and secrets that
 * are made once and kept in the data directory.
 */
export async function startUp(given: Settings): Promise<{ close(): Promise<void> }> {
  const dataDir = resolve(given.dataDir);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const configPath = given.configPath === "" ? demoConfig : given.configPath;
  // The greeting is what a person wants to read first; log lines come when something is wrong, or when asked for.
  const logLevel = given.env.TOLLGATE_LOG_LEVEL ? given.logLevel : "warn";
  // What is for one machine is seen on no other.
  const adminHost = given.env.TOLLGATE_ADMIN_HOST ? given.adminHost : "127.0.0.1";
  const settings: Settings = { ...given, dataDir, configPath, logLevel, adminHost };
  const config = await readConfig(settings);
  const closers = new Closers();
  const close = () =>
    closers.close((part, error) => void process.stderr.write(`tollgate: closing ${part}: ${error}\n`));
  try {
    const kept =
      config.masterKey === undefined ? keptSecret(dataDir, "master-key", () => `sk-${randomText()}`) : undefined;
    const masterKey = config.masterKey ?? kept?.secret;
    if (masterKey === undefined) throw new Error("unreachable: a master key is given or kept");
    let databaseUrl = config.databaseUrl;
    if (databaseUrl === undefined) {
      const postgres = await startEmbeddedPostgres({ dataDir, log: () => {} });
      closers.add("postgres", () => postgres.stop());
      databaseUrl = postgres.url;
    }
    const pepper = settings.pepper ?? keptSecret(dataDir, "pepper", randomText).secret;
    const shared = { ...settings, masterKey, pepper };
    // The two talk inside one machine, so what protects them on a network would only keep them apart.
    const tls = { ...settings.tls, ports: undefined };
    const keyService = await startKeyService(
      { ...shared, tls, identitiesPath: undefined, keyserviceAdmin: undefined },
      { ...config, masterKey, databaseUrl },
    );
    closers.add("keyservice", () => keyService.close());
    const keyserviceUrl = `http://127.0.0.1:${keyService.port}`;
    const sidecar = await startSidecar({
      settings: { ...shared, keyserviceUrl },
      config: { ...config, masterKey },
      management: true,
    });
    closers.add("sidecar", () => sidecar.close());
    const key = await readyKey(dataDir, keyserviceUrl, masterKey);
    const model = [...config.modelGroups.keys()].find((name) => !name.includes("*")) ?? "demo";
    process.stdout.write(
      greeting({ sidecar, keyserviceUrl, key, model, masterKey: kept?.isNew ? masterKey : undefined, dataDir }),
    );
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A secret that is made once and kept in a file only its owner reads. */
function keptSecret(dataDir: string, name: string, make: () => string): { secret: Secret; isNew: boolean } {
  const path = join(dataDir, name);
  // Empty is what a start that was killed here may leave.
  const kept = existsSync(path) ? readFileSync(path, "utf8").trim() : "";
  if (kept !== "") return { secret: new Secret(kept), isNew: false };
  const value = make();
  writeFileSync(path, `${value}\n`, { mode: 0o600 });
  return { secret: new Secret(value), isNew: true };
}

/** A virtual key to start with: the one of the last start, or a new one if that is gone. */
async function readyKey(dataDir: string, keyserviceUrl: string, masterKey: Secret): Promise<string> {
  const kept = keptSecret(dataDir, "demo-key", () => `sk-${randomText()}`).secret.reveal();
  const headers = { authorization: `Bearer ${masterKey.reveal()}`, "content-type": "application/json" };
  const known = await fetch(`${keyserviceUrl}/key/info?key=${encodeURIComponent(kept)}`, { headers });
  if (known.ok) return kept;
  const made = await fetch(`${keyserviceUrl}/key/generate`, {
    method: "POST",
    headers,
    body: JSON.stringify({ key: kept, max_budget: 10, budget_duration: "30d", metadata: { made_by: "tollgate up" } }),
  });
  if (!made.ok) throw new Error(`The first key could not be made: ${made.status} ${await made.text()}`);
  return kept;
}

function randomText(): string {
  return randomBytes(32).toString("hex");
}

interface Facts {
  readonly sidecar: Sidecar;
  readonly keyserviceUrl: string;
  readonly key: string;
  readonly model: string;
  /** Only when it was made just now: it is shown once. */
  readonly masterKey: Secret | undefined;
  readonly dataDir: string;
}

function greeting({ sidecar, keyserviceUrl, key, model, masterKey, dataDir }: Facts): string {
  const address = `127.0.0.1:${sidecar.port}`;
  const messages = `"messages":[{"role":"user","content":"Hello"}]`;
  const chat = `{"chat":{"model":"${model}","messages":[{"role":"ROLE_USER","text":"Hello"}]}}`;
  return `
Tollgate is up.

  OpenAI HTTP, gRPC   http://${address}
  Health, metrics     http://127.0.0.1:${sidecar.adminPort}/readyz
  KeyService          ${keyserviceUrl}
  Data                ${dataDir}

  Virtual key         ${key}   ($10 each 30 days)
${masterKey === undefined ? "" : `  Master key          ${masterKey.reveal()}   (shown this once; kept in ${join(dataDir, "master-key")})\n`}
Try it:

  curl http://${address}/v1/chat/completions -H "Authorization: Bearer ${key}" -H "Content-Type: application/json" -d '{"model":"${model}",${messages}}'

  python3 -c 'from openai import OpenAI; print(OpenAI(base_url="http://${address}/v1", api_key="${key}").chat.completions.create(model="${model}", messages=[{"role": "user", "content": "Hello"}]).choices[0].message.content)'

  grpcurl -plaintext -H "authorization: Bearer ${key}" -d '${chat}' ${address} tollgate.completion.v1.CompletionService/Complete

`;
}
