import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { baseArchive, installed, run } from "./base-image.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** What the image says of how it is to be run. */
interface ImageConfig {
  readonly User: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly WorkingDir: string;
  readonly Labels: Readonly<Record<string, string>>;
  readonly Healthcheck: { readonly Test: readonly string[] };
}

/** The image of `deploy/Dockerfile`, built by buildah without a daemon and laid out as files. */
export class BuiltImage {
  readonly config: ImageConfig;
  /** Its root directory. */
  readonly files: string;
  readonly #store: string;

  private constructor(parts: { config: ImageConfig; files: string; store: string }) {
    this.config = parts.config;
    this.files = parts.files;
    this.#store = parts.store;
  }

  /** @throws Error with what buildah said. */
  static build(): BuiltImage {
    installed("buildah");
    const store = mkdtempSync(join(tmpdir(), "tollgate-image-"));
    const buildah = (...args: string[]) => buildahIn(store, args);
    try {
      const base = buildah("from", "scratch").trim();
      buildah("add", "--quiet", base, baseArchive(), "/");
      buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", base);
      buildah("commit", "--quiet", "--rm", base, "localhost/node");
      // The file itself is as it is: only where its base comes from is said, as for a mirror.
      const from = ["--pull-never", "--build-arg", "NODE_IMAGE=localhost/node"];
      buildah("build", "--format=docker", ...from, "-f", join(root, "deploy/Dockerfile"), "-t", "tollgate", root);
      const { Docker } = JSON.parse(buildah("inspect", "--type=image", "tollgate")) as {
        Docker: { config: ImageConfig };
      };
      const container = buildah("from", "--pull-never", "tollgate").trim();
      return new BuiltImage({ config: Docker.config, files: buildah("mount", container).trim(), store });
    } catch (error) {
      remove(store);
      throw error;
    }
  }

  /** Starts it as kubelet would under the `restricted` profile. */
  start(args: readonly string[], env: Readonly<Record<string, string>>): Container {
    return new Container(this, args, env);
  }

  remove(): void {
    remove(this.#store);
  }
}

/**
 * A process of the image: the image's files as its root, read-only but for a memory file system at its data directory; the image's
 * user and variables; no capabilities, nor a way to any. The network is this machine's.
 */
export class Container {
  readonly #process: ChildProcess;
  /** What it has printed. */
  output = "";

  constructor({ config, files }: BuiltImage, args: readonly string[], env: Readonly<Record<string, string>>) {
    const [uid, gid] = config.User.split(":");
    const mounts = [
      // As container runtimes do, before the root becomes read-only.
      'mkdir -p "$ROOT/proc" "$ROOT/dev"',
      'mount --bind "$ROOT" "$ROOT"',
      'mount -t proc proc "$ROOT/proc"',
      'mount --bind /dev "$ROOT/dev"',
      `mount -t tmpfs -o uid=${uid},gid=${gid},mode=700 tmpfs "$ROOT${config.WorkingDir}"`,
      'mount -o remount,bind,ro "$ROOT"',
    ].join(" && ");
    const variables = [...config.Env, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)];
    // Whoever ceases to be root loses its capabilities, and setpriv takes every way back.
    const drop = ["/usr/bin/setpriv", "--no-new-privs", "/usr/sbin/chroot", `--userspec=${config.User}`, files];
    const command = [...variables, ...drop, ...config.Entrypoint, ...args];
    this.#process = spawn("unshare", ["--mount", "sh", "-ec", `${mounts} && exec env -i "$@"`, "sh", ...command], {
      env: { PATH: process.env.PATH, ROOT: files },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on("data", (text) => {
        this.output += String(text);
      });
    }
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Waits for its end. @returns the exit code, or undefined if a signal ended it. */
  async ended(): Promise<number | undefined> {
    const { exitCode, signalCode } = this.#process;
    if (exitCode === null && signalCode === null) await once(this.#process, "exit");
    return this.#process.exitCode ?? undefined;
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number | undefined> {
    this.#process.kill(signal);
    return this.ended();
  }
}

function buildahIn(store: string, args: readonly string[]): string {
  const places = ["--root", join(store, "images"), "--runroot", join(store, "run")];
  return run("buildah", [...places, ...args], { ...process.env, BUILDAH_ISOLATION: "chroot", STORAGE_DRIVER: "vfs" });
}

function remove(store: string): void {
  buildahIn(store, ["umount", "--all"]);
  rmSync(store, { recursive: true, force: true });
}
