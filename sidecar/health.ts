import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { get as getOverTls } from "node:https";
import { text } from "node:stream/consumers";
import { type Settings, SettingsError } from "./settings.ts";

/** An answer later than this is none, in milliseconds. */
const patienceMs = 3_000;

/** Where each program says whether it can be used. */
const addresses: Readonly<Record<string, (settings: Settings) => string>> = {
  sidecar: ({ adminHost, adminPort, tls }) =>
    `${tls.coversAdminPort ? "https" : "http"}://${reachable(adminHost)}:${adminPort}/readyz`,
  keyservice: ({ keyserviceHost, keyservicePort, tls }) =>
    `${tls.ports ? "https" : "http"}://${reachable(keyserviceHost)}:${keyservicePort}/health/readiness`,
};

/**
 * `tollgate health sidecar|keyservice`: asks the program on this machine whether it can be used, for containers whose image has
 * nothing else to ask with.
 *
 * @returns the exit code: 0 if it says yes, 1 otherwise.
 * @throws SettingsError if there is no such program.
 */
export async function health(
  args: readonly string[],
  { settings, stdout }: { readonly settings: Settings; readonly stdout: { write(text: string): unknown } },
): Promise<number> {
  const [program = "sidecar", ...rest] = args;
  const address = addresses[program];
  if (address === undefined || rest.length > 0) throw new SettingsError("tollgate health sidecar, or keyservice");
  const { healthy, said } = await ask(address(settings));
  stdout.write(`${said}\n`);
  return healthy ? 0 : 1;
}

async function ask(url: string): Promise<{ healthy: boolean; said: string }> {
  try {
    const signal = AbortSignal.timeout(patienceMs);
    // The certificate is for the names that others ask by. As kubelet's probes, this shows nothing and asks this machine only.
    const request = url.startsWith("https:")
      ? getOverTls(url, { signal, rejectUnauthorized: false })
      : get(url, { signal });
    const [response] = (await once(request, "response")) as [IncomingMessage];
    return { healthy: response.statusCode === 200, said: (await text(response)).trim() };
  } catch (error) {
    return { healthy: false, said: `${url} does not answer: ${error instanceof Error ? error.message : error}` };
  }
}

/** A program that listens at every address is asked at this machine's own. */
function reachable(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return host.includes(":") ? `[${host}]` : host;
}
