import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const cache = fileURLToPath(new URL("../../.cache/go-tools", import.meta.url));

/** The versions that deploy/ is checked against. Kubernetes's is the first in which all it uses is stable. */
const modules = {
  kubernetes: "k8s.io/kubernetes@v1.36.3",
  prometheusOperator: "github.com/prometheus-operator/prometheus-operator@v0.88.0",
  compose: "github.com/compose-spec/compose-go/v2@v2.16.2",
};
const kustomizePackage = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1";
const helmPackage = "helm.sh/helm/v4/cmd/helm@v4.3.1";

/** Whether there is a Go on this machine; if not, why the test is skipped. */
export function skipWithoutGo(): string | false {
  return spawnSync("go", ["version"]).status === 0
    ? false
    : "there is no go on this machine: what is deployed is NOT tested";
}

/** The directory of a module's files, fetched from the Go module proxy where it is not there yet. */
export function goModule(name: keyof typeof modules): string {
  return (JSON.parse(go(["mod", "download", "-json", modules[name]])) as { Dir: string }).Dir;
}

/** Renders a kustomization with the real kustomize, built once from the Go module proxy and kept in `.cache/`. */
export function kustomize(directory: string): string {
  return output(built("kustomize", kustomizePackage), ["build", directory]);
}

/** Runs the real helm, built likewise. */
export function helm(args: readonly string[]): string {
  return output(built("helm", helmPackage), args);
}

/** Where a program is, built where it is not there yet. */
function built(name: string, source: string): string {
  const home = join(cache, `${name}-${source.split("@").at(-1)}`);
  const program = join(home, name);
  if (!existsSync(program)) go(["install", source], { GOBIN: home });
  return program;
}

/** @returns what it printed. @throws Error with what it said. */
export function go(args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = "/"): string {
  return output("go", args, { cwd, env: { ...process.env, ...env } });
}

function output(command: string, args: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    ...options,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(" ")} failed: ${error?.message ?? stderr}`);
}
