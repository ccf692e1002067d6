import { MetricsPage, openAdminPort, type Readiness, systemClock, type tlsMaterial } from "../src/index.ts";
import type { Settings } from "./settings.ts";

/** What kubelet and Prometheus are told. */
export interface AdminFacts {
  /** Never rejects. */
  readonly readiness: () => Readiness | Promise<Readiness>;
  /** Metrics as Prometheus reads them, by what it accepts. */
  readonly expose: (accept: string | undefined) => Promise<{ contentType: string; text: string }>;
  /** Throws GatewayError unless the holder of a key may read them. Undefined: everybody may. */
  readonly checkReader: ((key: string) => Promise<void>) | undefined;
}

/** Where they are told it. */
export interface AdminDoor {
  readonly port: number;
  close(): Promise<void>;
}

/** Opens the port for kubelet and Prometheus. @param material undefined: it is in the clear. */
export function openAdminDoor(
  { adminHost: host, adminPort: port }: Pick<Settings, "adminHost" | "adminPort">,
  { readiness, expose, checkReader }: AdminFacts,
  material: ReturnType<typeof tlsMaterial> | undefined,
  onBug: (error: unknown) => void,
): Promise<AdminDoor> {
  return openAdminPort({
    ...{ host, port, readiness, onBug, clock: systemClock },
    tls: material && { material, requiresClient: false },
    metrics: new MetricsPage({ expose, checkReader }),
  });
}
