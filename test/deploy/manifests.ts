import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";

/** Every kustomization of deploy/kubernetes that can be applied; components are in those that use them. */
export const kustomizations = ["keyservice", "gateway", "examples", "monitoring", "admission", "examples-tls"] as const;

/** What the chart of deploy/helm is rendered with for what is committed: everything it has, with the image's placeholder. */
export const chartValues = {
  image: { digest: `sha256:${"0".repeat(64)}` },
  gateway: { enabled: true },
  monitoring: { enabled: true },
};

/** All that is rendered and committed. */
export const renderings = [...kustomizations, "chart"] as const;

export const chartDirectory = fileURLToPath(new URL("../../deploy/helm/tollgate", import.meta.url));

/** A directory of deploy/kubernetes. */
export function kustomizationDirectory(name: string): string {
  return fileURLToPath(new URL(`../../deploy/kubernetes/${name}`, import.meta.url));
}

/** Where a committed rendering is. */
export function renderedFile(name: string): string {
  return fileURLToPath(new URL(`rendered/${name}.yaml`, import.meta.url));
}

/** A committed rendering. */
export function rendered(name: string): Manifest[] {
  return manifestsOf(readFileSync(renderedFile(name), "utf8"));
}

/** What tests look at of a container. */
export interface Container {
  readonly name: string;
  readonly image: string;
  readonly restartPolicy?: string;
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[];
  readonly envFrom?: readonly { readonly configMapRef?: { readonly name: string } }[];
  readonly ports?: readonly { readonly name: string }[];
  readonly resources?: {
    readonly requests?: Readonly<Record<string, string>>;
    readonly limits?: Readonly<Record<string, string>>;
  };
  readonly securityContext?: {
    readonly allowPrivilegeEscalation?: boolean;
    readonly privileged?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly runAsNonRoot?: boolean;
    readonly seccompProfile?: { readonly type: string };
    readonly capabilities?: { readonly drop?: readonly string[]; readonly add?: readonly string[] };
  };
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly volumeMounts?: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly subPath?: string;
    readonly readOnly?: boolean;
  }[];
}

/** How kubelet asks a container how it is. */
interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string; readonly scheme?: string };
}

/** What a pod can mount. */
interface Volume {
  readonly name: string;
  readonly secret?: object;
  readonly hostPath?: object;
  readonly projected?: {
    readonly sources: readonly {
      readonly serviceAccountToken?: { readonly path: string; readonly audience?: string };
    }[];
  };
}

/** What tests look at of a pod. */
export interface PodSpec {
  readonly serviceAccountName?: string;
  readonly automountServiceAccountToken?: boolean;
  readonly terminationGracePeriodSeconds?: number;
  readonly securityContext?: {
    readonly runAsNonRoot?: boolean;
    readonly seccompProfile?: { readonly type: string };
  };
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes?: readonly Volume[];
}

/** The template that a workload makes its pods from. */
export interface PodTemplate {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: PodSpec;
}

/** An object of Kubernetes, as a manifest has it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly uid?: string };
  /** Of a ConfigMap. */
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: {
    readonly template?: PodTemplate;
    readonly jobTemplate?: { readonly spec: { readonly template: PodTemplate } };
  };
}

/** The objects of a file of several documents. */
export function manifestsOf(yaml: string): Manifest[] {
  return parseAllDocuments(yaml).map((document) => document.toJS() as Manifest);
}

/** What an object makes pods from, if it does. */
export function podTemplateOf({ spec }: Manifest): PodTemplate | undefined {
  return spec?.jobTemplate?.spec.template ?? spec?.template;
}
