/** What stands before a chunk's text. */
const mark = '"content":"';
/** What JSON's text of a text does not say as it is. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids them.
const unplain = /["\\\u0000-\u001f]/;
/** An answer whose chunks differ in more than their texts is not looked at any longer. */
const triesMax = 4;

/**
 * Chunks of one answer that differ in nothing but their text, as nearly all do: what was read of one holds for those after it, which need
 * not be parsed. One that is not the same before and behind its text, byte for byte, is.
 */
export class AlikeChunks {
  #before = "";
  #behind = "";
  #tries = 0;

  /** @param data of a frame. @returns the chunk's text; undefined: it has to be read. */
  textOf(data: string): string | undefined {
    const [before, behind] = [this.#before, this.#behind];
    if (before === "" || data.length < before.length + behind.length) return undefined;
    if (!data.startsWith(before) || !data.endsWith(behind)) return undefined;
    const text = data.slice(before.length, data.length - behind.length);
    if (unplain.test(text)) return undefined;
    this.#tries = 0;
    return text;
  }

  /** Whether there is any use in `learn`. */
  get isOpen(): boolean {
    return this.#tries < triesMax;
  }

  /** A chunk was read that says nothing but a text. */
  learn(data: string, text: string): void {
    if (!this.isOpen || unplain.test(text)) return;
    this.#tries += 1;
    const at = data.indexOf(mark);
    const start = at + mark.length;
    const isIt = at !== -1 && data.startsWith(`${text}"`, start) && data.indexOf(mark, start) === -1;
    this.#before = isIt ? data.slice(0, start) : "";
    this.#behind = isIt ? data.slice(start + text.length) : "";
  }
}
