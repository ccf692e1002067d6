import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
  type YAMLError,
} from "yaml";
import type { Fault } from "./config.ts";
import type { Path } from "./remarks.ts";

/** A map as YAML has it. */
export type Tree = { [key: string]: unknown };

/** One YAML file: its values, and the lines they are written at. */
export class ConfigDocument {
  readonly file: string;
  readonly tree: Tree;
  readonly #document: Document;
  readonly #lines: LineCounter;

  private constructor(file: string, tree: Tree, document: Document, lines: LineCounter) {
    this.file = file;
    this.tree = tree;
    this.#document = document;
    this.#lines = lines;
  }

  /** Reads the text of a file. Everything wrong with its form is told at once. */
  static parse(file: string, text: string): ConfigDocument | readonly Fault[] {
    const lines = new LineCounter();
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true, logLevel: "error" });
    const fault = (line: number, message: string): Fault => ({ file, line, path: "", message });
    const faults = [...document.errors, ...document.warnings].map((error) =>
      fault(lines.linePos(error.pos[0]).line, faultText(error, text)),
    );
    visit(document, {
      Alias(_, alias) {
        const target = alias.resolve(document);
        const at = alias.range?.[0] ?? 0;
        const [start, end] = target?.range ?? [0, 0];
        const name = alias.source;
        if (target === undefined) {
          faults.push(fault(lines.linePos(at).line, `*${name} refers to nothing; write &${name} before it`));
        } else if (at >= start && at < end) {
          faults.push(fault(lines.linePos(at).line, `*${name} stands inside the value it refers to; move one of them`));
        }
      },
    });
    if (faults.length > 0) return faults;
    let tree: unknown;
    try {
      tree = document.toJS();
    } catch (error) {
      return [fault(0, `not YAML that can be read: ${(error as Error).message}`)];
    }
    if (tree === null) return [fault(0, "the file is empty; write at least a model_list")];
    if (!isTree(tree)) return [fault(1, "the file is no map; write sections such as model_list: at its top")];
    return new ConfigDocument(file, tree, document, lines);
  }

  /** The line of the deepest part of `path` that is written in this file. */
  lineOf(path: Path): number {
    let node: Node | null = this.#document.contents;
    let offset = node?.range?.[0] ?? 0;
    for (const step of path) {
      if (isAlias(node)) node = node.resolve(this.#document) ?? null;
      if (isMap(node)) {
        const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === step);
        if (pair === undefined) break;
        offset = (pair.key as Node).range?.[0] ?? offset;
        node = pair.value as Node | null;
      } else if (isSeq(node)) {
        node = (node.items[Number(step)] as Node | undefined) ?? null;
        offset = node?.range?.[0] ?? offset;
      } else break;
    }
    return this.#lines.linePos(offset).line;
  }
}

/** Whether a value is a map. */
export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** JSON with sorted keys. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === "object" && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}

function faultText(error: YAMLError, text: string): string {
  switch (error.code) {
    case "DUPLICATE_KEY":
      return `the key "${/["']?([\w./*-]+)/y.exec(text.slice(error.pos[0]))?.[1] ?? ""}" is written twice in one map; keep one of them`;
    case "TAB_AS_INDENT":
      return "a tab indents this line; write spaces";
    case "MULTIPLE_DOCS":
      return "a second document starts here (---); write one document a file, and list further files under include";
    default:
      return `not YAML: ${error.message}`;
  }
}
