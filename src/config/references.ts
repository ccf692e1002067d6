import { readFile } from "node:fs/promises";
import { isTree, type Tree } from "./document.ts";
import { type Path, pathText } from "./remarks.ts";

/** Environment variables by name, `process.env` for instance. */
export type Env = Readonly<Record<string, string | undefined>>;

const prefix = "os.environ/";

/** A configuration tree whose `os.environ/NAME` texts have been replaced by what they stand for. */
export interface ResolvedTree {
  /** Keys without a value are absent, as in LiteLLM null means unset. */
  readonly tree: Tree;
  /** The name of the variable that was not set, by the path that asked for it. */
  readonly unset: ReadonlyMap<string, UnsetReference>;
  /** Files named by NAME_FILE that could not be read. */
  readonly unreadable: readonly { readonly path: Path; readonly name: string; readonly reason: string }[];
  /** A variable: the file's `environment_variables` first, then the process's NAME, then the content of NAME_FILE. */
  lookup(name: string): string | undefined;
}

/** An `os.environ/NAME` that stands for nothing. */
export interface UnsetReference {
  readonly path: Path;
  readonly name: string;
}

/** The variable a text refers to, if it does. */
export function referenceOf(value: unknown): string | undefined {
  return typeof value === "string" && value.startsWith(prefix) ? value.slice(prefix.length).trim() : undefined;
}

/**
 * Replaces every `os.environ/NAME`.
 *
 * @param wellKnown names that `lookup` will be asked for although the tree may not mention them.
 */
export async function resolveReferences(tree: Tree, env: Env, wellKnown: readonly string[]): Promise<ResolvedTree> {
  const references: { path: Path; name: string }[] = [];
  collect(tree, [], references);
  const values = new Map<string, string>();
  const unreadable: { path: Path; name: string; reason: string }[] = [];
  for (const name of new Set([...references.map((reference) => reference.name), ...wellKnown])) {
    const found = await readVariable(name, env);
    if (found.value !== undefined) values.set(name, found.value);
    if (found.reason === undefined) continue;
    const path = references.find((reference) => reference.name === name)?.path ?? [];
    unreadable.push({ path, name, reason: found.reason });
  }
  const own = ownVariables(tree, values);
  const lookup = (name: string) => own.get(name) ?? values.get(name);
  const unset = new Map<string, UnsetReference>();
  const replace = (value: unknown, path: Path): unknown => {
    const name = referenceOf(value);
    if (name !== undefined) {
      // An entry of environment_variables may be named like the variable it takes its value from.
      const found = path[0] === "environment_variables" ? values.get(name) : lookup(name);
      if (found === undefined) unset.set(pathText(path), { path, name });
      return found;
    }
    if (Array.isArray(value)) return value.map((item, index) => replace(item, [...path, index]) ?? null);
    if (!isTree(value)) return value ?? undefined;
    const entries = Object.entries(value).map(([key, item]) => [key, replace(item, [...path, key])] as const);
    return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
  };
  return { tree: replace(tree, []) as Tree, unset, unreadable, lookup };
}

/** The files that resolving would read. */
export function variableFiles(tree: Tree, env: Env, wellKnown: readonly string[]): readonly string[] {
  const references: { path: Path; name: string }[] = [];
  collect(tree, [], references);
  const names = new Set([...references.map(({ name }) => name), ...wellKnown]);
  return [...names].flatMap((name) => (env[name] ? [] : env[`${name}_FILE`] || []));
}

function collect(value: unknown, path: Path, found: { path: Path; name: string }[]): void {
  const name = referenceOf(value);
  if (name !== undefined) found.push({ path, name });
  else if (Array.isArray(value)) for (const [index, item] of value.entries()) collect(item, [...path, index], found);
  else if (isTree(value)) for (const [key, item] of Object.entries(value)) collect(item, [...path, key], found);
}

/** An empty variable counts as not set: compose files and manifests cannot leave one out. */
async function readVariable(name: string, env: Env): Promise<{ value?: string; reason?: string }> {
  const value = env[name];
  if (value !== undefined && value !== "") return { value };
  const file = env[`${name}_FILE`];
  if (file === undefined || file === "") return {};
  try {
    const content = (await readFile(file, "utf8")).trim();
    return content === "" ? {} : { value: content };
  } catch (error) {
    return { reason: (error as { code?: string }).code ?? "unknown error" };
  }
}

function ownVariables(tree: Tree, values: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const own = new Map<string, string>();
  if (!isTree(tree.environment_variables)) return own;
  for (const [name, given] of Object.entries(tree.environment_variables)) {
    const reference = referenceOf(given);
    const value = reference === undefined ? given : values.get(reference);
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
      own.set(name, String(value));
  }
  return own;
}
