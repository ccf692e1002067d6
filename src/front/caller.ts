/** Who is calling, by the headers both doors look at. */

const tagsMax = 64;
const tagCharsMax = 256;

/** Looks a header up by its lower-case name; undefined if it is absent, empty, or was sent twice. */
export type HeaderLookup = (name: string) => string | undefined;

/** The virtual key of a request, wherever clients of LiteLLM, OpenAI, Azure and Anthropic put it, in LiteLLM's order. */
export function tokenOf(header: HeaderLookup): string | undefined {
  const own = header("x-litellm-api-key");
  // LiteLLM takes its own header with and without "Bearer".
  return bearer(own) ?? own ?? bearer(header("authorization")) ?? header("api-key") ?? header("x-api-key");
}

/** Tags from `x-litellm-tags`, separated by commas. */
export function tagsOf(header: HeaderLookup): readonly string[] {
  const given = header("x-litellm-tags");
  if (given === undefined) return [];
  const tags = given.split(",").map((tag) => tag.trim());
  return tags.filter((tag) => tag !== "" && tag.length <= tagCharsMax).slice(0, tagsMax);
}

function bearer(header: string | undefined): string | undefined {
  return header === undefined ? undefined : /^bearer +(\S+) *$/i.exec(header)?.[1];
}
