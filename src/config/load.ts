import type { z } from "zod";
import { compile, effectiveVariables } from "./compile.ts";
import type { Config, Fault } from "./config.ts";
import { type Lent, lendCredentials } from "./credentials.ts";
import { lendDefaults } from "./default-params.ts";
import { idOf, unsetText } from "./deployments.ts";
import { isTree } from "./document.ts";
import type { IssueParams } from "./fields.ts";
import { type Env, referenceOf, resolveReferences, variableFiles } from "./references.ts";
import { type Path, pathText, Remarks } from "./remarks.ts";
import { configFile } from "./schema.ts";
import { readSource, type Source } from "./source.ts";
import { nothingStored, type StoredModel, type StoredModels, storedAddresses, withStored } from "./stored-models.ts";
import { noticeStrangers } from "./strangers.ts";

/** A configuration, or everything that is wrong with it. */
export type LoadResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly faults: readonly Fault[] };

/** Texts longer than this are not repeated in faults. */
const shownTextMax = 60;

/** A configuration file as it was read: compiled again whenever what comes to it from elsewhere changes. */
export class ConfigReading {
  readonly #source: Source;
  readonly #env: Env;

  constructor(source: Source, env: Env) {
    this.#source = source;
    this.#env = env;
  }

  /**
   * Resolves `os.environ/NAME`, checks and compiles, all or nothing.
   *
   * @param parts.stored what the database has besides. Default: nothing.
   * @param parts.nowMs decides which dated prices apply.
   */
  async compile({
    stored = nothingStored,
    nowMs,
  }: {
    readonly stored?: StoredModels;
    readonly nowMs: number;
  }): Promise<LoadResult> {
    const source = withStored(this.#source, stored);
    const remarks = new Remarks(source.place);
    const resolved = await resolveReferences(source.tree, this.#env, effectiveVariables);
    for (const { path, name, reason } of resolved.unreadable) {
      remarks.fault(path, `${name}_FILE names a file that cannot be read (${reason})`);
    }
    noticeStrangers(source.tree, remarks);
    const lent = lendDefaults(lendCredentials(resolved));
    const checked = configFile.safeParse(lent.tree);
    if (!checked.success) {
      const { tree: written } = lendDefaults(lendCredentials({ tree: source.tree, unset: new Map() }));
      for (const issue of checked.error.issues) remarks.fault(pathOf(issue), faultText(issue, written, lent));
      return { ok: false, faults: remarks.faults };
    }
    const config = await compile({
      ...{ file: checked.data, remarks, nowMs },
      resolved: { ...resolved, unset: lent.unset },
      digest: source.digest,
      fileEntries: (checked.data.model_list?.length ?? 0) - stored.models.length,
      storedAddresses: storedAddresses(source.tree, stored),
    });
    return remarks.faults.length > 0 ? { ok: false, faults: remarks.faults } : { ok: true, config };
  }

  /** Digest of the texts, in hex; what variables stand for is not in it. */
  get digest(): string {
    return this.#source.digest;
  }

  /** The files that variables are read from (NAME_FILE), with what the file refers to. */
  get variableFiles(): readonly string[] {
    return variableFiles(this.#source.tree, this.#env, effectiveVariables);
  }

  /** What stands in the file's `model_list`, with the ids its deployments get here. */
  async entries(): Promise<readonly StoredModel[]> {
    const { model_list: written } = this.#source.tree;
    const resolved = await resolveReferences(this.#source.tree, this.#env, []);
    const list: readonly unknown[] = Array.isArray(written) ? written : [];
    const resolvedList = resolved.tree.model_list as readonly unknown[] | undefined;
    return list.flatMap((entry, index) => {
      const facts = resolvedList?.[index];
      return isTree(entry) && isTree(facts) ? [{ id: idOf(facts, undefined), entry }] : [];
    });
  }
}

/**
 * Reads LiteLLM's YAML from a file and what it includes. Nothing is thrown and nothing is changed.
 *
 * @param parts.file as the operator named it; messages begin with it.
 * @param parts.onFile told of every file that is asked for, the first and what it includes.
 */
export async function readConfigFile(parts: {
  file: string;
  env: Env;
  onFile?: (file: string) => void;
}): Promise<ConfigReading | readonly Fault[]> {
  const source = await readSource(parts.file, parts.onFile ?? (() => {}));
  return "tree" in source ? new ConfigReading(source, parts.env) : source;
}

/** Reads a file and compiles it by itself. Call it again to see what a changed file would mean. */
export async function loadConfig(parts: { file: string; env: Env; nowMs: number }): Promise<LoadResult> {
  const reading = await readConfigFile(parts);
  if (!(reading instanceof ConfigReading)) return { ok: false, faults: reading };
  return reading.compile({ nowMs: parts.nowMs });
}

function pathOf(issue: z.core.$ZodIssue): Path {
  return issue.path.map((step) => (typeof step === "symbol" ? String(step) : step));
}

function faultText(issue: z.core.$ZodIssue, tree: unknown, resolved: Pick<Lent, "unset">): string {
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
