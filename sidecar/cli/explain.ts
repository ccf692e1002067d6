import { readFileSync } from "node:fs";
import type { JsonObject } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type ExplainedGroup,
  type ExplainResponse,
  ExplainResponseSchema,
  RoutingService,
} from "../../src/gen/tollgate/completion/v1/routing_pb.ts";
import { type Answer, type Call, flagValue, type Server, UsageError, type Verb } from "./command.ts";
import { readJsonObject } from "./fields.ts";
import { jsonOf } from "./message-json.ts";
import { type CliIo, runCommand } from "./run-command.ts";
import { tableText, visible } from "./table.ts";

const sidecar: Server = {
  name: "sidecar",
  setting: "--sidecar",
  lists: false,
  url({ port }, flags) {
    const given = flags.get("sidecar")?.at(-1) ?? `http://127.0.0.1:${port}`;
    if (/^https?:$/.test(URL.parse(given)?.protocol ?? "")) return given;
    throw new UsageError(`--sidecar: "${given}" is not an address such as http://127.0.0.1:4000`);
  },
};

const verb: Verb = {
  summary: "shows where a sidecar would try a call, and why not elsewhere; nobody is called",
  args: ["MODEL"],
  flags: {
    sidecar: { value: "URL", meaning: "The sidecar to ask (default: http://127.0.0.1 and TOLLGATE_PORT)" },
    "key-file": {
      value: "FILE",
      meaning: "A file with the virtual key the call would be made with; default: the token",
    },
    tag: { value: "TAG", multiple: true, meaning: "A tag of the call" },
    "body-file": { value: "FILE", meaning: "The call's body, JSON as for /v1/chat/completions; - for standard input" },
  },
  run: ask,
};

/**
 * `tollgate explain`: asks a sidecar what would become of a call.
 *
 * @returns the exit code.
 */
export async function explain(argv: readonly string[], io: CliIo): Promise<number> {
  return runCommand({ words: "tollgate explain", verb, server: sidecar }, argv, io);
}

async function ask(call: Call): Promise<Answer> {
  const bodyText = textOf(call, "body-file");
  const answer = await call.connect(RoutingService).explain({
    model: call.args[0] ?? "",
    key: textOf(call, "key-file")?.trim() ?? "",
    tags: [...(call.flags.get("tag") ?? [])],
    ...(bodyText !== undefined && { body: bodyOf(bodyText) }),
  });
  return { kind: "done", result: jsonOf(ExplainResponseSchema, answer), text: pageOf(answer) };
}

/** What a flag's file holds; undefined if the flag was not written. @throws UsageError */
function textOf(call: Call, flag: string): string | undefined {
  const file = flagValue(call, flag);
  if (file === "") return undefined;
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new UsageError(`--${flag}: cannot read "${file}" (${(error as { code?: string }).code ?? "unknown error"})`);
  }
}

function bodyOf(text: string): JsonObject {
  try {
    return readJsonObject([text]);
  } catch (error) {
    throw new UsageError(`--body-file: ${error instanceof Error ? error.message : error}`);
  }
}

function pageOf(answer: ExplainResponse): string {
  const { keyId, strategy, tags, groups, contextWindowFallbacks, contentPolicyFallbacks } = answer;
  const lines = [
    `Key       ${visible(keyId)}`,
    `Strategy  ${strategy}`,
    ...(tags.length === 0 ? [] : [`Tags      ${visible(tags.join(", "))}`]),
    ...(contextWindowFallbacks.length === 0 ? [] : [`Too long  ${visible(contextWindowFallbacks.join(", "))}`]),
    ...(contentPolicyFallbacks.length === 0 ? [] : [`Refused   ${visible(contentPolicyFallbacks.join(", "))}`]),
  ];
  return [lines.join("\n"), ...groups.map(groupText)].join("\n\n");
}

function groupText(group: ExplainedGroup, index: number): string {
  const { model, modelGroup, retries, tried, excluded, refusal } = group;
  const name = modelGroup === model ? model : `${model} (${modelGroup})`;
  const repeated = retries === 1 ? "1 retry" : `${retries} retries`;
  const lines = [`${index === 0 ? "" : "then "}${visible(name)}, ${repeated}`];
  if (refusal !== undefined) {
    const { code, message, retryAfter } = refusal;
    const when = retryAfter === undefined ? "" : `, again in ${durationMs(retryAfter) / 1000} s`;
    lines.push(`  refused: ${visible(message)} (${code}${when})`);
  }
  const rows = [
    ...tried.map(({ deployment, isProbe, load, order }, at) => ({
      place: String(at + 1),
      ...placeOf(deployment),
      order: order === undefined ? "-" : String(order),
      in_flight: String(load?.inFlight ?? 0n),
      requests: String(load?.requests ?? 0n),
      tokens: String(load?.tokens ?? 0n),
      ms_per_token: rounded(load?.msPerOutputToken),
      first_token_ms: rounded(load?.firstTokenMs),
      why: isProbe ? "probe: it has been down" : "",
    })),
    ...excluded.map(({ deployment, reason, detail }) => ({
      ...{ place: "-", ...placeOf(deployment) },
      why: `${reason}: ${detail}`,
    })),
  ];
  const table = tableText(rows, [
    ["", "place"],
    ["ID", "id"],
    ["MODEL", "model"],
    ["ORDER", "order"],
    ["IN FLIGHT", "in_flight"],
    ["REQ/MIN", "requests"],
    ["TOKENS/MIN", "tokens"],
    ["MS/TOKEN", "ms_per_token"],
    ["FIRST MS", "first_token_ms"],
    ["WHY", "why"],
  ]);
  return [...lines, table.trimEnd().replace(/^/gm, "  ")].join("\n");
}

function placeOf(deployment: ExplainedGroup["tried"][number]["deployment"]) {
  return { id: deployment?.id ?? "", model: `${deployment?.provider}/${deployment?.model}` };
}

function rounded(ms: number | undefined): string {
  return ms === undefined ? "-" : String(Math.round(ms * 10) / 10);
}
