import { Secret } from "../secret.ts";
import type { CallbackConfig, LangfuseSettings } from "./callback-config.ts";
import type { Remarks } from "./remarks.ts";
import type { ConfigFile } from "./schema.ts";

/** Variables that say where Langfuse is. */
export const callbackVariables = [
  ...["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"],
  ...["LANGFUSE_HOST", "LANGFUSE_OTEL_HOST", "LANGFUSE_BASE_URL"],
] as const;

const defaultHost = "https://cloud.langfuse.com";
const langfuseNames: ReadonlySet<string> = new Set(["langfuse", "langfuse_otel"]);
/** These need no naming: the one is always there, the other as soon as it has an address. */
const otherNames: ReadonlyMap<string, string> = new Map([
  ["prometheus", "metrics are always served at /metrics of the admin port"],
  ["otel", "spans are exported as soon as OTEL_EXPORTER_OTLP_ENDPOINT is set"],
]);

const keys = ["callbacks", "success_callback", "failure_callback", "service_callback"] as const;

/** Reads LiteLLM's lists of callbacks. */
export function compileCallbacks(
  { litellm_settings: settings = {} }: ConfigFile,
  lookup: (name: string) => string | undefined,
  remarks: Remarks,
): CallbackConfig {
  const named = new Map(keys.map((key) => [key, [settings[key] ?? []].flat()]));
  for (const [key, names] of named) remarkOthers(key, names, remarks);
  const isFor = (key: (typeof keys)[number]) =>
    named.get(key)?.some((name) => langfuseNames.has(String(name))) === true;
  const [all, successes, failures] = [isFor("callbacks"), isFor("success_callback"), isFor("failure_callback")];
  const others = {
    hidesContent: settings.turn_off_message_logging ?? false,
    forwardTraceparent: settings.forward_traceparent_to_llm_provider ?? false,
  };
  if (!all && !successes && !failures) return { langfuse: undefined, ...others };
  const which = { successes: all || successes, failures: all || failures };
  const key = all ? "callbacks" : successes ? "success_callback" : "failure_callback";
  return {
    langfuse: langfuseAt(which, lookup, (message) => remarks.notice(["litellm_settings", key], message)),
    ...others,
  };
}

function remarkOthers(key: (typeof keys)[number], names: readonly unknown[], remarks: Remarks): void {
  for (const name of names) {
    const isServed = typeof name === "string" && langfuseNames.has(name) && key !== "service_callback";
    if (isServed) continue;
    const other = typeof name === "string" ? otherNames.get(name) : undefined;
    remarks.notice(
      ["litellm_settings", key],
      other === undefined ? `${String(name)} is not served; langfuse is` : `${name}: ${other}`,
    );
  }
}

function langfuseAt(
  which: Pick<LangfuseSettings, "successes" | "failures">,
  lookup: (name: string) => string | undefined,
  notice: (message: string) => void,
): LangfuseSettings | undefined {
  const [publicKey, secretKey] = [lookup("LANGFUSE_PUBLIC_KEY"), lookup("LANGFUSE_SECRET_KEY")];
  if (!publicKey || !secretKey) {
    notice(
      "Langfuse is told nothing: set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, and LANGFUSE_HOST if it is your own",
    );
    return undefined;
  }
  const host = lookup("LANGFUSE_HOST") || lookup("LANGFUSE_BASE_URL") || lookup("LANGFUSE_OTEL_HOST") || defaultHost;
  if (!/^https?:$/.test(URL.parse(host)?.protocol ?? "")) {
    notice(`Langfuse is told nothing: LANGFUSE_HOST is no http or https URL, such as ${defaultHost}`);
    return undefined;
  }
  return { host, publicKey, secretKey: new Secret(secretKey), ...which };
}
