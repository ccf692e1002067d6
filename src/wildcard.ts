/**
 * Matches a name against a pattern with at most a few `*`, each standing for any text, the empty one included. Both ends are
 * anchored.
 *
 * @returns the text the first `*` stood for ("" for a pattern without any), or undefined if the name does not match.
 */
export function matchWildcard(pattern: string, name: string): string | undefined {
  const parts = pattern.split("*");
  const first = parts[0] ?? "";
  if (parts.length === 1) return pattern === name ? "" : undefined;
  const last = parts.at(-1) ?? "";
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return undefined;
  const end = name.length - last.length;
  let position = first.length;
  let captured: string | undefined;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, position);
    if (found === -1 || found + part.length > end) return undefined;
    captured ??= name.slice(position, found);
    position = found + part.length;
  }
  return captured ?? name.slice(position, end);
}
