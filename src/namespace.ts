/** What a namespace of kept answers looks like. */
export const namespaceForm = "up to 64 letters, digits and . _ : / -";

/** Whether a text may be a namespace of kept answers: it goes into headers and into Redis' keys. */
export function isNamespace(text: string): boolean {
  return /^[A-Za-z0-9._:/-]{1,64}$/.test(text);
}
