import type { Flags, Resource, Server, Verb } from "./command.ts";

/** The flags of every command. */
export const everywhere: Flags = {
  json: { meaning: "One JSON document on standard output; of a failure, on standard error" },
  "token-file": { value: "FILE", meaning: "A file with the master key, instead of TOLLGATE_ADMIN_TOKEN" },
  help: { meaning: "This" },
};

/** How a command is written. @param words it is called by. */
export function usageOf(words: string, verb: Verb): string {
  return [words, ...verb.args, "[flags]"].join(" ");
}

export function resourceHelp(name: string, { summary, verbs }: Resource): string {
  const lines = Object.entries(verbs).map(([verb, { args, summary: what }]): [string, string] => [
    [verb, ...args].join(" "),
    what,
  ]);
  return `tollgate ${name}: ${summary}\n\n${listed(lines)}\n\`tollgate ${name} VERB --help\` shows its flags.\n`;
}

export function verbHelp(words: string, verb: Verb, { name, setting }: Pick<Server, "name" | "setting">): string {
  const all = { ...verb.flags, ...everywhere };
  const lines = Object.entries(all).map(([flag, { value, meaning, multiple }]): [string, string] => [
    `--${flag}${value === undefined ? "" : ` ${value}`}`,
    multiple ? `${meaning}; may be repeated` : meaning,
  ]);
  return `${usageOf(words, verb)}: ${verb.summary}\n\n${listed(lines)}\n${setting} says where the ${name} is.\n`;
}

function listed(lines: readonly (readonly [string, string])[]): string {
  const width = Math.max(...lines.map(([left]) => left.length));
  return lines.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
