/** A family of metrics, as several workers show it. */
interface Family {
  /** HELP and TYPE. */
  readonly head: string[];
  readonly samples: string[];
}

const end = "# EOF";

/**
 * The metrics of several workers as those of one process: each sample says by a label whose it is. A sum over a pod is what it would be
 * for one process.
 *
 * @param texts by the number of the worker: Prometheus's text form, or OpenMetrics.
 */
export function mergeMetrics(texts: ReadonlyMap<number, string>): string {
  const families = new Map<string, Family>();
  let isOpen = false;
  for (const [worker, text] of texts) {
    let family: Family | undefined;
    for (const line of text.split("\n")) {
      if (line === end) isOpen = true;
      else if (line.startsWith("# ")) {
        const name = line.split(" ", 3)[2] ?? "";
        family = families.get(name);
        if (family === undefined) {
          family = { head: [], samples: [] };
          families.set(name, family);
        }
        if (!family.head.includes(line)) family.head.push(line);
      } else if (line !== "") family?.samples.push(labelled(line, worker));
    }
  }
  const lines = [...families.values()].flatMap(({ head, samples }) => [...head, ...samples]);
  return `${[...lines, ...(isOpen ? [end] : [])].join("\n")}\n`;
}

function labelled(sample: string, worker: number): string {
  const at = sample.search(/[{ ]/);
  const [name, rest] = [sample.slice(0, at), sample.slice(at + 1)];
  return sample[at] === "{" ? `${name}{worker="${worker}",${rest}` : `${name}{worker="${worker}"} ${rest}`;
}
