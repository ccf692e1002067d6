const colours: Readonly<Record<string, string>> = {
  debug: "\u001b[2m",
  info: "",
  warn: "\u001b[33m",
  error: "\u001b[31m",
};
const dim = "\u001b[2m";
const plain = "\u001b[0m";

/** What a person at a terminal need not be told in every line. */
const left: ReadonlySet<string> = new Set(["level", "time", "msg", "service", "pod", "pid", "hostname"]);

/** A JSON line of the log as people read it: `21:03:11.250 warn  call failed  code=provider_error model=gpt`. */
export function logText(line: string): string {
  let facts: Record<string, unknown>;
  try {
    facts = JSON.parse(line);
  } catch {
    return line;
  }
  const { level, time, msg } = facts;
  const clock = typeof time === "string" ? time.slice(11, 23) : "";
  const others = Object.entries(facts)
    .filter(([name]) => !left.has(name))
    .map(([name, value]) => `${dim}${name}=${plain}${typeof value === "string" ? value : JSON.stringify(value)}`);
  const colour = colours[String(level)] ?? "";
  return `${dim}${clock}${plain} ${colour}${String(level).padEnd(5)} ${msg}${plain}  ${others.join(" ")}\n`;
}
