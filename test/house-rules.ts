import { posix } from "node:path";

/** What is wrong and what to do instead, as `file:line: what; do instead`. */
export type Fault = string;

interface Import {
  readonly from: string;
  readonly line: number;
  readonly to: string;
  /** Erased when the program runs. */
  readonly typeOnly: boolean;
  /** `export ... from`. */
  readonly handsOn: boolean;
}

/** The floors, highest first; a room is a folder of src, or a file that stands alone. Imports go down only. */
const floors: readonly (readonly string[])[] = [
  ["sidecar"],
  ["index.ts", "client.ts"],
  ["front", "create-gateway.ts"],
  ["gateway.ts"],
  ["routing", "admission"],
  ["providers", "keys", "spend", "cache"],
  ["config", "counters", "telemetry", "wires", "server"],
  ["ground"],
];

/** Files that stand beside another and are one room with it. */
const annexes: Readonly<Record<string, string>> = {
  "pod-metrics.ts": "create-gateway.ts",
  "observed-config.ts": "create-gateway.ts",
  ...Object.fromEntries(
    [
      "attempt.ts",
      "attempt-signal.ts",
      "cacheable-call.ts",
      "call.ts",
      "content-recorder.ts",
      "continuation.ts",
      "destinations.ts",
      "explainer.ts",
      "hedge.ts",
      "metrics-reader.ts",
      "planner.ts",
      "previous-response.ts",
      "stored-responses.ts",
    ].map((file) => [file, "gateway.ts"]),
  ),
};

/** The tower stands beside the house: what it may import, and who may import it. */
const tower = "keyservice";
const belowTower = new Set(["ground", "telemetry", "server", "spend", "config"]);
const aboveTower = new Set(["sidecar"]);

/** What the composition root may touch besides the library's face and the tower. */
const belowSidecar = new Set(["index.ts", "ground", tower]);

const faces = new Set(["src/index.ts", "src/client.ts"]);
const entries = new Set([
  ...[...faces, "sidecar/main.ts", "sidecar/setup.mjs", "sidecar/tollgate.mjs"],
  ...["test/run.ts", "test/deploy/outages.ts", "test/deploy/chart.ts"],
]);
const linesMax = 400;

const banned: readonly { where: RegExp; what: RegExp; name: string; instead: string }[] = [
  {
    name: "the global fetch",
    what: /(?<![\w.#])fetch\(/,
    where: /^src\//,
    instead: "use undici's Pool.request, which costs a seventh",
  },
  {
    name: "structuredClone",
    what: /(?<![\w.])structuredClone\(/,
    where: /^src\//,
    instead: "build the new value from the parts that change",
  },
  {
    name: "Date.now",
    what: /\bDate\.now\(|new Date\(\)/,
    where: /^src\/(?!clock\.ts)/,
    instead: "take a Clock and ask nowMs()",
  },
  {
    name: "performance.now",
    what: /\bperformance\.now\(/,
    where: /^src\/(?!clock\.ts)/,
    instead: "take a Clock and ask monotonicMs()",
  },
  { name: "Math.random", what: /\bMath\.random\(/, where: /^src\/(?!clock\.ts)/, instead: "take a Random" },
  {
    name: "a bare timer",
    what: /(?<![\w.])(setTimeout|setInterval)\(|node:timers/,
    where: /^src\/(?!clock\.ts)/,
    instead: "use after() of a Clock",
  },
  {
    name: "console",
    what: /(?<![\w.])console\.\w+\(/,
    where: /^(src|sidecar)\//,
    instead: "log through Telemetry, or write to process.stdout",
  },
  {
    name: "process.env",
    what: /\bprocess\.env\b/,
    where: /^src\//,
    instead: "add a name to sidecar/settings.ts and pass its value in",
  },
  {
    name: "one variable of process.env",
    what: /\bprocess\.env(\.|\[)/,
    where: /^sidecar\/(?!settings\.ts).*\.ts$/,
    instead: "add its name to sidecar/settings.ts",
  },
  { name: "as any", what: /\bas any\b/, where: /./, instead: "narrow the value, or give it a type" },
  {
    name: "a silenced type error",
    what: /@ts-(ignore|nocheck|expect-error)/,
    where: /./,
    instead: "make the types say what is true",
  },
];

/** Everything that breaks the rules of the house, given all its files (path from the root of the project to text). */
export function findFaults(files: ReadonlyMap<string, string>): Fault[] {
  const imports = [...files].flatMap(([path, text]) => importsOf(path, text));
  return [
    ...climbs(imports),
    ...circles(imports),
    ...imports
      .filter(({ from, handsOn }) => handsOn && !faces.has(from))
      .map(
        ({ from, line, to }) =>
          `${from}:${line}: hands on ${to}; only src/index.ts and src/client.ts re-export: import it where it is used`,
      ),
    ...[...files].flatMap(([path, text]) => [...nameFaults(path), ...sizeFaults(path, text), ...bannedIn(path, text)]),
    ...orphans(files, imports),
  ];
}

function importsOf(from: string, text: string): Import[] {
  const statement =
    /^ *(import|export)\s([^"';]*?)from\s+"([^"]+)"|^ *import\s+"([^"]+)"|\b(?:import|new URL)\(\s*"(\.[^"]+)"|\bimport\("([^"]+)"\)/gm;
  return [...text.matchAll(statement)].flatMap((match) => {
    const [, keyword, clause = "", named, bare, dynamic, typeImport] = match;
    const target = named ?? bare ?? dynamic ?? typeImport ?? "";
    if (!target.startsWith(".") || !/\.(ts|mjs)$/.test(target)) return [];
    const line = text.slice(0, match.index).split("\n").length;
    const to = posix.join(posix.dirname(from), target);
    return [{ from, line, to, typeOnly: isTypeOnly(clause), handsOn: keyword === "export" }];
  });
}

function isTypeOnly(clause: string): boolean {
  const names = clause
    .match(/^\{([^}]*)\}/)?.[1]
    ?.split(",")
    .filter((name) => name.trim() !== "");
  return /^type\s/.test(clause) || (names?.every((name) => /^\s*type\s/.test(name)) ?? false);
}

function roomOf(path: string): string | undefined {
  const [top, second = "", ...rest] = path.split("/");
  if (top === "sidecar") return "sidecar";
  if (top !== "src") return undefined;
  if (rest.length > 0) return second === "gen" ? "ground" : second;
  const room = annexes[second] ?? second;
  return floorOf(room) === undefined ? "ground" : room;
}

/** Counted from the ground up; undefined for what has no floor. */
function floorOf(room: string): number | undefined {
  const index = floors.findIndex((rooms) => rooms.includes(room));
  return index === -1 ? undefined : floors.length - index;
}

function climbs(imports: readonly Import[]): Fault[] {
  return imports.flatMap(({ from, line, to, typeOnly }) => {
    const [here, there] = [roomOf(from), roomOf(to)];
    if (here === undefined || here === there) return [];
    const cure = there === undefined ? "nothing of the program imports tests" : cureFor(here, there, typeOnly);
    return cure === undefined ? [] : [`${from}:${line}: ${here} imports ${there ?? "test"} (${to}); ${cure}`];
  });
}

function cureFor(here: string, there: string, typeOnly: boolean): string | undefined {
  if (here === tower) {
    if (belowTower.has(there)) return undefined;
    return `${tower} imports only ${[...belowTower].join(", ")}: meet the pod in proto/`;
  }
  if (there === tower) return aboveTower.has(here) ? undefined : `only sidecar/ imports ${tower}: meet it in proto/`;
  if (here === "sidecar") {
    return belowSidecar.has(there)
      ? undefined
      : "sidecar/ imports the library's face: export what it needs from src/index.ts";
  }
  const [above, below] = [floorOf(here), floorOf(there)];
  if (above === undefined || below === undefined) return "give the room a floor in test/house-rules.ts";
  if (above > below || (above === below && there === "config" && typeOnly)) return undefined;
  return above === below
    ? "rooms of one floor do not know each other: pass a value in, or move what both need down"
    : "imports go down only: pass it in from above, or move it down";
}

function circles(imports: readonly Import[]): Fault[] {
  const next = Map.groupBy(imports, ({ from }) => from);
  const done = new Set<string>();
  const found: Fault[] = [];
  const walk = (path: string, trail: readonly string[]) => {
    const start = trail.indexOf(path);
    if (start !== -1)
      found.push(
        `${path}:1: a circle: ${[...trail.slice(start), path].join(" -> ")}; move what both need to a file below`,
      );
    if (start !== -1 || done.has(path)) return;
    for (const { to } of next.get(path) ?? []) walk(to, [...trail, path]);
    done.add(path);
  };
  for (const path of next.keys()) walk(path, []);
  return found;
}

function nameFaults(path: string): Fault[] {
  const parts = path.split("/");
  const name = parts.at(-1)?.replace(/(\.test)?\.(ts|mjs)$/, "") ?? "";
  if (
    !parts
      .slice(0, -1)
      .concat(name)
      .every((part) => /^[a-z0-9]+(-[a-z0-9]+)*$/.test(part))
  ) {
    return [`${path}:1: not in kebab-case; rename it for the noun inside`];
  }
  if (/(^|-)(utils?|helpers?|common|misc|shared|index)$/.test(name) && !faces.has(path)) {
    return [`${path}:1: "${name}" says nothing of what is inside; rename it for the noun inside, or split it`];
  }
  return [];
}

function sizeFaults(path: string, text: string): Fault[] {
  const lines = text.trimEnd().split("\n").length;
  return lines > linesMax && !path.startsWith("test/")
    ? [`${path}:${linesMax}: ${lines} lines; split it at ${linesMax} or before`]
    : [];
}

function bannedIn(path: string, text: string): Fault[] {
  const rules = banned.filter(({ where }) => where.test(path) && !path.startsWith("test/house"));
  // Blanked, not cut out: lines keep their numbers. Directives for the compiler are comments and stay.
  const code = text.replace(/\/\*[\s\S]*?\*\/|(?<![:"'`\w])\/\/(?! *@ts-).*/g, (comment) =>
    comment.replace(/[^\n]/g, " "),
  );
  return code
    .split("\n")
    .flatMap((line, index) =>
      rules
        .filter(({ what }) => what.test(line))
        .map(({ name, instead }) => `${path}:${index + 1}: ${name}; ${instead}`),
    );
}

/**
 * A file of the program that only tests import is as dead as one that nobody does. A test may start a file by its name, and the scripts
 * of package.json start the writers.
 */
function orphans(files: ReadonlyMap<string, string>, imports: readonly Import[]): Fault[] {
  const wanted = new Set(imports.filter(({ from, to }) => isTest(to) || !isTest(from)).map(({ to }) => to));
  const named = (path: string) =>
    isTest(path) && [...files].some(([other, text]) => other !== path && text.includes(`${posix.basename(path)}"`));
  return [...files.keys()]
    .filter((path) => !wanted.has(path) && !entries.has(path) && !/\.test\.ts$|-writer\.ts$/.test(path) && !named(path))
    .map((path) => `${path}:1: nothing of the program imports it; delete it, or use it`);
}

function isTest(path: string): boolean {
  return path.startsWith("test/");
}
