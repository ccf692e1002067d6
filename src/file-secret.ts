import type { Clock } from "./clock.ts";
import { FileValue } from "./file-value.ts";
import { Secret } from "./secret.ts";

/** A secret that stands in a file, and is given as it is now: whoever rotates it needs to restart nothing. */
export class FileSecret extends Secret {
  readonly #text: FileValue<string>;

  /**
   * @param parts.onError told when the file cannot be read, or is empty; the secret of before stays.
   * @throws Error if that is so now.
   */
  constructor({ file, ...parts }: { file: string; clock: Clock; onError: (error: Error) => void }) {
    super("");
    this.#text = new FileValue({
      ...parts,
      files: [file],
      read: ([content]) => {
        const text = content?.toString("utf8").trim() ?? "";
        if (text === "") throw new Error(`"${file}" is empty`);
        return text;
      },
    });
  }

  override reveal(): string {
    return this.#text.current;
  }
}
