import type { TlsFiles } from "../src/index.ts";

/** What the variables say of TLS. */
export interface TlsSettings {
  /** Of our own ports; undefined: they are in the clear. */
  readonly ports: TlsFiles | undefined;
  /** Whether the sidecar's health and metrics port is one of them. */
  readonly coversAdminPort: boolean;
  /** Of the connection to the KeyService, if that is https. */
  readonly keyService: TlsFiles;
}

/** Reads them. @param faults gets what does not fit together. */
export function readTlsSettings(
  env: Readonly<Record<string, string | undefined>>,
  { keyserviceUrl, coversAdminPort }: { readonly keyserviceUrl: string; readonly coversAdminPort: boolean },
  faults: string[],
): TlsSettings {
  const pair = (certName: string, keyName: string) => {
    const [certFile, keyFile] = [env[certName] || undefined, env[keyName] || undefined];
    if (certFile !== undefined && keyFile === undefined) faults.push(`${keyName}: missing; ${certName} needs its key`);
    if (keyFile !== undefined && certFile === undefined) faults.push(`${certName}: missing; ${keyName} is its key`);
    return { certFile, keyFile };
  };
  const own = pair("TOLLGATE_TLS_CERT_FILE", "TOLLGATE_TLS_KEY_FILE");
  const clientCaFile = env.TOLLGATE_TLS_CLIENT_CA_FILE || undefined;
  const isOn = own.certFile !== undefined;
  if (!isOn && clientCaFile !== undefined)
    faults.push(
      "TOLLGATE_TLS_CLIENT_CA_FILE: clients' certificates are seen over TLS only; set TOLLGATE_TLS_CERT_FILE",
    );
  if (!isOn && coversAdminPort) faults.push("TOLLGATE_ADMIN_TLS: there is no certificate; set TOLLGATE_TLS_CERT_FILE");
  const keyService = {
    ...pair("KEYSERVICE_CERT_FILE", "KEYSERVICE_KEY_FILE"),
    caFile: env.KEYSERVICE_CA_FILE || undefined,
  };
  if (!keyserviceUrl.startsWith("https:") && (keyService.caFile ?? keyService.certFile) !== undefined)
    faults.push("KEYSERVICE_URL: not https, so KEYSERVICE_CA_FILE and KEYSERVICE_CERT_FILE would protect nothing");
  return { ports: isOn ? { ...own, caFile: clientCaFile } : undefined, coversAdminPort, keyService };
}
