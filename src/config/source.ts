import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import type { Fault } from "./config.ts";
import { ConfigDocument, type Tree } from "./document.ts";
import type { Path, Place } from "./remarks.ts";

/** Part of the merged tree that stems from one file: a whole section, or a run of a list. */
interface Piece {
  readonly document: ConfigDocument;
  /** Where the run starts in the merged list. */
  readonly start: number;
}

/** A configuration file with all it includes, merged as LiteLLM does: lists are joined, other sections replaced. */
export interface Source {
  readonly tree: Tree;
  /** SHA-256 of the files' texts, in hex. */
  readonly digest: string;
  place(path: Path): Place;
}

/**
 * Reads a file and what it includes.
 *
 * @param onFile told of every file that is asked for, whether it can be read or not.
 */
export async function readSource(file: string, onFile: (file: string) => void): Promise<Source | readonly Fault[]> {
  const reading = new Reading(onFile);
  await reading.read(file, undefined);
  if (reading.faults.length > 0) return reading.faults;
  return merge(file, reading.documents, reading.hash.digest("hex"));
}

/** Where an `include` stands that led to a file. */
type Includer = Place & { readonly path: string };

class Reading {
  readonly documents: ConfigDocument[] = [];
  readonly faults: Fault[] = [];
  readonly hash = createHash("sha256");
  readonly #seen = new Set<string>();
  readonly #onFile: (file: string) => void;

  constructor(onFile: (file: string) => void) {
    this.#onFile = onFile;
  }

  async read(file: string, includer: Includer | undefined): Promise<void> {
    const path = normalize(file);
    if (this.#seen.has(path)) {
      this.faults.push({
        ...(includer ?? { file, line: 0, path: "" }),
        message: `${file} is included twice; keep one`,
      });
      return;
    }
    this.#seen.add(path);
    this.#onFile(path);
    const text = await this.#text(file, includer);
    if (text === undefined) return;
    const document = ConfigDocument.parse(file, text);
    if (!(document instanceof ConfigDocument)) {
      this.faults.push(...document);
      return;
    }
    this.hash.update(text).update("\0");
    this.documents.push(document);
    await this.#include(document);
  }

  async #include(document: ConfigDocument): Promise<void> {
    const { file, tree } = document;
    const included = tree.include ?? [];
    if (!Array.isArray(included) || !included.every((name) => typeof name === "string")) {
      const message = "found no list of texts; write a list of file names, such as [models.yaml]";
      this.faults.push({ file, line: document.lineOf(["include"]), path: "include", message });
      return;
    }
    for (const [index, name] of included.entries()) {
      const includer = { file, line: document.lineOf(["include", index]), path: `include[${index}]` };
      await this.read(name.startsWith("/") ? name : join(dirname(file), name), includer);
    }
  }

  async #text(file: string, includer: Includer | undefined): Promise<string | undefined> {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(file));
    } catch (error) {
      const message = `cannot read ${file}: ${readFault(error)}`;
      this.faults.push({ ...(includer ?? { file, line: 0, path: "" }), message });
      return undefined;
    }
  }
}

function readFault(error: unknown): string {
  const { code } = error as { code?: string };
  switch (code) {
    case "ENOENT":
      return "there is no such file";
    case "EISDIR":
      return "it is a directory; name a file";
    case "EACCES":
      return "permission denied";
    case "ERR_ENCODING_INVALID_ENCODED_DATA":
      return "it is not UTF-8 text";
    default:
      return code ?? "unknown error";
  }
}

function merge(file: string, documents: readonly ConfigDocument[], digest: string): Source {
  const sections = new Map<string, unknown>();
  const pieces = new Map<string, Piece[]>();
  for (const document of documents) {
    for (const [key, value] of Object.entries(document.tree)) {
      const before = sections.get(key);
      const joins = Array.isArray(before) && Array.isArray(value);
      sections.set(key, joins ? [...before, ...value] : value);
      const piece = { document, start: joins ? before.length : 0 };
      pieces.set(key, joins ? [...(pieces.get(key) ?? []), piece] : [piece]);
    }
  }
  const place = (path: Path): Place => {
    const [section, index, ...rest] = path;
    const found = pieces.get(String(section));
    if (section === undefined || found === undefined) return { file, line: 0 };
    if (typeof index !== "number") {
      const document = found[0]?.document;
      return document === undefined ? { file, line: 0 } : { file: document.file, line: document.lineOf(path) };
    }
    const piece = found.findLast(({ start }) => start <= index);
    if (piece === undefined) return { file, line: 0 };
    return { file: piece.document.file, line: piece.document.lineOf([section, index - piece.start, ...rest]) };
  };
  return { tree: Object.fromEntries(sections), digest, place };
}
