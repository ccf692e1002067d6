import type { Flags, Resource, Verb } from "./command.ts";

/** The flags of every command. */
export const everywhere: Flags = {
  json: { meaning: "One JSON document on standard output; of a failure, on standard error" },
  "token-file": { value: "FILE", meaning: "A file with the master key, instead of TOLLGATE_ADMIN_TOKEN" },
  help: { meaning: "This" },
};

/** How a verb is written. */
export function usageOf(resource: string, name: string, verb: Verb): string {
  return ["tollgate", resource, name, ...verb.args, "[flags]"].join(" ");
}

export function resourceHelp(name: string, { summary, verbs }: Resource): string {
  const lines = Object.entries(verbs).map(([verb, { args, summary: what }]): [string, string] => [
    [verb, ...args].join(" "),
    what,
  ]);
  return `tollgate ${name}: ${summary}\n\n${listed(lines)}\n\`tollgate ${name} VERB --help\` shows its flags.\n`;
}

export function verbHelp(resource: string, name: string, verb: Verb): string {
  const all = { ...verb.flags, ...everywhere };
  const lines = Object.entries(all).map(([flag, { value, meaning, multiple }]): [string, string] => [
    `--${flag}${value === undefined ? "" : ` ${value}`}`,
    multiple ? `${meaning}; may be repeated` : meaning,
  ]);
  return `${usageOf(resource, name, verb)}: ${verb.summary}\n\n${listed(lines)}\nKEYSERVICE_URL says where the KeyService is.\n`;
}

function listed(lines: readonly (readonly [string, string])[]): string {
  const width = Math.max(...lines.map(([left]) => left.length));
  return lines.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
