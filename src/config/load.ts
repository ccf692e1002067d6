import type { z } from "zod";
import { compile, effectiveVariables } from "./compile.ts";
import type { Config, Fault } from "./config.ts";
import { unsetText } from "./deployments.ts";
import { isTree } from "./document.ts";
import type { IssueParams } from "./fields.ts";
import { type Env, type ResolvedTree, referenceOf, resolveReferences } from "./references.ts";
import { type Path, pathText, Remarks } from "./remarks.ts";
import { configFile } from "./schema.ts";
import { readSource } from "./source.ts";
import { noticeStrangers } from "./strangers.ts";

/** A configuration, or everything that is wrong with it. */
export type LoadResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly faults: readonly Fault[] };

/** Texts longer than this are not repeated in faults. */
const shownTextMax = 60;

/**
 * Reads LiteLLM's YAML from a file and what it includes, resolves `os.environ/NAME`, checks and compiles it. Nothing is
 * thrown and nothing is changed; call it again to see what a changed file would mean.
 *
 * @param parts.file as the operator named it; messages begin with it.
 * @param parts.nowMs decides which dated prices apply.
 */
export async function loadConfig(parts: { file: string; env: Env; nowMs: number }): Promise<LoadResult> {
  const source = await readSource(parts.file);
  if (!("tree" in source)) return { ok: false, faults: source };
  const remarks = new Remarks(source.place);
  const resolved = await resolveReferences(source.tree, parts.env, effectiveVariables);
  for (const { path, name, reason } of resolved.unreadable) {
    remarks.fault(path, `${name}_FILE names a file that cannot be read (${reason})`);
  }
  noticeStrangers(source.tree, remarks);
  const checked = configFile.safeParse(resolved.tree);
  if (!checked.success) {
    for (const issue of checked.error.issues) remarks.fault(pathOf(issue), faultText(issue, source.tree, resolved));
    return { ok: false, faults: remarks.faults };
  }
  const { digest } = source;
  const config = await compile({ file: checked.data, resolved, remarks, digest, nowMs: parts.nowMs });
  return remarks.faults.length > 0 ? { ok: false, faults: remarks.faults } : { ok: true, config };
}

function pathOf(issue: z.core.$ZodIssue): Path {
  return issue.path.map((step) => (typeof step === "symbol" ? String(step) : step));
}

function faultText(issue: z.core.$ZodIssue, tree: unknown, resolved: ResolvedTree): string {
  const path = pathOf(issue);
  const unset = resolved.unset.get(pathText(path));
  if (unset !== undefined) return `${unsetText(unset.name)}; write ${issue.message}`;
  const params = issue.code === "custom" ? (issue.params as IssueParams | undefined) : undefined;
  const raw = path.reduce<unknown>((value, step) => childOf(value, step), tree);
  const found = foundText(raw, params?.hidden ?? false);
  return `${found}; write ${issue.message}`;
}

function childOf(value: unknown, step: string | number): unknown {
  return Array.isArray(value) || isTree(value) ? (value as Record<string | number, unknown>)[step] : undefined;
}

/** What was found, without giving away a secret: what a variable holds is never shown. */
function foundText(raw: unknown, hidden: boolean): string {
  if (raw === undefined) return "missing";
  if (raw === null) return "found nothing";
  if (raw === "") return "found an empty text";
  if (Array.isArray(raw)) return "found a list";
  if (typeof raw === "object") return "found a map";
  const variable = referenceOf(raw);
  if (variable !== undefined) return `found something else in the variable ${variable}`;
  if (typeof raw === "string" && (hidden || raw.length > shownTextMax)) return "found a text that does not fit";
  return hidden ? `found a ${typeof raw}` : `found ${JSON.stringify(raw)}`;
}
