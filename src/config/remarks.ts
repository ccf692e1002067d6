import type { Fault, Notice } from "./config.ts";

/** Where a value stands in the configuration: keys and list positions from the top. */
export type Path = readonly (string | number)[];

/** The line a value is written at. */
export interface Place {
  readonly file: string;
  /** From 1; 0 when no line is to blame. */
  readonly line: number;
  /** How it is called there; absent: as in the whole configuration. */
  readonly within?: Path;
  /** The model of the database that it is part of, if it is. */
  readonly modelId?: string;
}

/** Writes a path as people do: `model_list[2].litellm_params.rpm`. */
export function pathText(path: Path): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else if (!/^[\w-]+$/.test(step)) text += `[${JSON.stringify(step)}]`;
    else text += text === "" ? step : `.${step}`;
  }
  return text;
}

/** One line for a person: `config.yaml:12: model_list[0].model_name: found 5; write ...`. */
export function remarkText(remark: Notice): string {
  const place = remark.line === 0 ? remark.file : `${remark.file}:${remark.line}`;
  return remark.path === "" ? `${place}: ${remark.message}` : `${place}: ${remark.path}: ${remark.message}`;
}

/** Collects what there is to say about a configuration, with the line it is about. */
export class Remarks {
  readonly #place: (path: Path) => Place;
  readonly #notices: Notice[] = [];
  readonly #faults: Fault[] = [];

  constructor(place: (path: Path) => Place) {
    this.#place = place;
  }

  notice(path: Path, message: string): void {
    this.#notices.push(this.#remark(path, message));
  }

  fault(path: Path, message: string): void {
    this.#faults.push(this.#remark(path, message));
  }

  #remark(path: Path, message: string): Notice {
    const { within = path, ...place } = this.#place(path);
    return { ...place, path: pathText(within), message };
  }

  /** In the order of the file. */
  get notices(): readonly Notice[] {
    return this.#notices.toSorted(byPlace);
  }

  /** In the order of the file. */
  get faults(): readonly Fault[] {
    return this.#faults.toSorted(byPlace);
  }
}

function byPlace(a: Place, b: Place): number {
  if (a.file !== b.file) return a.file < b.file ? -1 : 1;
  return a.line - b.line;
}
