import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Agent, request } from "undici";
import { freePort } from "../free-port.ts";
import { go } from "./go-tools.ts";
import type { Manifest } from "./manifests.ts";

/** Where a service account is, and its name. */
interface ServiceAccount {
  readonly namespace: string;
  readonly name: string;
}

const source = fileURLToPath(new URL("api-server", import.meta.url));
const program = fileURLToPath(new URL("../../.cache/go-tools/kube-apiserver", import.meta.url));
const startPatienceMs = 120_000;

/** What it says to a TokenRequest and a SelfSubjectReview. */
interface ReviewStatus {
  readonly token?: string;
  readonly userInfo?: { readonly username?: string };
}

/** What an API server answered. */
interface Answer {
  readonly status: number;
  readonly body: Manifest & { readonly message?: string; readonly status?: ReviewStatus };
}

/** A real kube-apiserver with a real etcd, empty but for what it makes itself. No controllers run, and no kubelet. */
export class ApiServer {
  readonly #process: ChildProcess;
  readonly #directory: string;
  readonly url: string;
  readonly #agent: Agent;
  /** By API version and kind: the path's word for it, and whether it is in namespaces. */
  readonly #resources = new Map<string, Promise<{ name: string; namespaced: boolean }>>();

  private constructor(parts: { process: ChildProcess; directory: string; url: string; agent: Agent }) {
    this.#process = parts.process;
    this.#directory = parts.directory;
    this.url = parts.url;
    this.#agent = parts.agent;
  }

  /** The authority of its certificate. */
  get caFile(): string {
    return join(this.#directory, "certificates/apiserver.crt");
  }

  /** Builds it, which takes a quarter of an hour where Go's cache has nothing of it, and starts it. */
  static async start(): Promise<ApiServer> {
    go(["build", "-o", program, "."], {}, source);
    const directory = mkdtempSync(join(tmpdir(), "tollgate-kubernetes-"));
    const port = await freePort();
    const { privateKey, publicKey } = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
      publicKeyEncoding: { type: "spki", format: "pem" },
    });
    const file = (name: string, text: string): string => {
      writeFileSync(join(directory, name), text, { mode: 0o600 });
      return join(directory, name);
    };
    const flags = {
      "secure-port": String(port),
      "bind-address": "127.0.0.1",
      "cert-dir": join(directory, "certificates"),
      "service-account-key-file": file("accounts.pub", publicKey),
      "service-account-signing-key-file": file("accounts.key", privateKey),
      "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
      "service-cluster-ip-range": "10.0.0.0/24",
      "token-auth-file": file("tokens.csv", "operator,operator,1,system:masters\n"),
      "authorization-mode": "RBAC",
      // It would wait for accounts that a controller makes.
      "disable-admission-plugins": "ServiceAccount",
    };
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    const log = join(directory, "log");
    const process = spawn("sh", ["-c", 'exec "$@" 2>"$LOG"', "sh", program, join(directory, "etcd"), ...args], {
      env: { PATH: globalThis.process.env.PATH, LOG: log },
      stdio: "ignore",
    });
    // Its certificate is made at the start by itself.
    const agent = new Agent({ connect: { rejectUnauthorized: false } });
    const server = new ApiServer({ process, directory, url: `https://127.0.0.1:${port}`, agent });
    const untilMs = Date.now() + startPatienceMs;
    for (;;) {
      const ready = await server.#ask("GET", "/readyz").catch(() => undefined);
      if (ready?.status === 200) return server;
      if (Date.now() > untilMs || process.exitCode !== null) {
        const said = readFileSync(log, "utf8").slice(-2_000);
        await server.stop();
        throw new Error(`The API server does not start: ${said}`);
      }
      await sleep(250);
    }
  }

  /** Server-side apply; unknown and repeated fields are refused. `dryRun`: all but keeping it. */
  async apply(manifest: Manifest, { dryRun = false } = {}): Promise<Answer> {
    const path = `${await this.#collectionOf(manifest)}/${manifest.metadata.name}`;
    const query = `fieldManager=tests&force=true&fieldValidation=Strict${dryRun ? "&dryRun=All" : ""}`;
    return this.#ask("PATCH", `${path}?${query}`, manifest, "application/apply-patch+yaml");
  }

  /** Makes an object, all but keeping it. */
  async create(manifest: Manifest): Promise<Answer> {
    const path = await this.#collectionOf(manifest);
    return this.#ask("POST", `${path}?dryRun=All&fieldValidation=Strict`, manifest, "application/json");
  }

  /**
   * A token of a service account, as kubelet has it made for a pod's projected volume.
   *
   * @param audience undefined: the Kubernetes API itself.
   * @param pod undefined: the token is bound to none.
   */
  async token(account: ServiceAccount, audience: string | undefined, pod?: Manifest): Promise<string> {
    const bound = pod && { kind: "Pod", apiVersion: "v1", name: pod.metadata.name, uid: pod.metadata.uid };
    const request = {
      ...{ apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest" },
      spec: { audiences: audience === undefined ? [] : [audience], expirationSeconds: 3_600, boundObjectRef: bound },
    };
    const path = `/api/v1/namespaces/${account.namespace}/serviceaccounts/${account.name}/token`;
    const { status, body } = await this.#ask("POST", path, request, "application/json");
    if (status !== 201 || body.status?.token === undefined) throw new Error(`No token was made: ${body.message}`);
    return body.status.token;
  }

  /** Who the server takes the bearer of a token for; undefined: nobody. */
  async nameOf(token: string): Promise<string | undefined> {
    const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
    const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    const { status, body } = await this.#ask("POST", path, review, "application/json", token);
    return status === 201 ? body.status?.userInfo?.username : undefined;
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const end = once(this.#process, "exit");
      this.#process.kill("SIGKILL");
      await end;
    }
    await this.#agent.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #collectionOf({ apiVersion, kind, metadata: { namespace = "default" } }: Manifest): Promise<string> {
    const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const id = `${apiVersion} ${kind}`;
    const found = this.#resources.get(id) ?? this.#discover(root, kind);
    this.#resources.set(id, found);
    const { name, namespaced } = await found;
    return namespaced ? `${root}/namespaces/${namespace}/${name}` : `${root}/${name}`;
  }

  async #discover(root: string, kind: string): Promise<{ name: string; namespaced: boolean }> {
    for (let tries = 0; tries < 40; tries++) {
      const { body } = await this.#ask("GET", root);
      const { resources = [] } = body as unknown as {
        resources?: { name: string; kind: string; namespaced: boolean }[];
      };
      const resource = resources.find((each) => each.kind === kind && !each.name.includes("/"));
      if (resource !== undefined) return resource;
      // Kinds that were just defined take a moment.
      await sleep(250);
    }
    throw new Error(`There is no ${kind} at ${root}.`);
  }

  async #ask(
    method: "GET" | "POST" | "PATCH",
    path: string,
    object?: object,
    type?: string,
    token = "operator",
  ): Promise<Answer> {
    const { statusCode, body } = await request(this.url + path, {
      ...{ method, dispatcher: this.#agent },
      headers: { authorization: `Bearer ${token}`, ...(type === undefined ? {} : { "content-type": type }) },
      ...(object === undefined ? {} : { body: JSON.stringify(object) }),
    });
    const text = await body.text();
    return { status: statusCode, body: text.startsWith("{") ? JSON.parse(text) : ({ message: text } as never) };
  }
}
