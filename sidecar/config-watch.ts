import { type Clock, ConfigReading, type Fault, FileWatch, readConfigFile } from "../src/index.ts";
import type { Settings } from "./settings.ts";

/** What a ConfigWatch is made of. */
export interface ConfigWatchParts {
  readonly settings: Pick<Settings, "configPath" | "env">;
  /** What the program was made of. */
  readonly reading: ConfigReading;
  /** Puts what was read anew into force. */
  readonly reload: (read: ConfigReading | readonly Fault[]) => Promise<void>;
  readonly clock: Clock;
}

/** Puts the configuration into force anew whenever its file changes, one that it includes, or one that a variable is read from. */
export class ConfigWatch {
  readonly #parts: ConfigWatchParts;
  readonly #watch: FileWatch;
  #files: readonly string[];
  #variableFiles: readonly string[];
  #reloading: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(parts: ConfigWatchParts) {
    this.#parts = parts;
    this.#files = [parts.settings.configPath];
    this.#variableFiles = parts.reading.variableFiles;
    this.#watch = new FileWatch({
      files: () => [...this.#files, ...this.#variableFiles],
      onChange: () => this.reload(),
      clock: parts.clock,
    });
  }

  async start(): Promise<void> {
    const read = await this.#read();
    await this.#watch.start();
    // The file may have changed since the program was made of it.
    if (read instanceof ConfigReading && read.digest === this.#parts.reading.digest) return;
    await this.reload();
  }

  /** Reads the file now, whether it has changed or not. One with a fault changes nothing, and is logged. */
  reload(): Promise<void> {
    // Whoever asks while one is under way waits for the next, with all others who do.
    this.#next ??= this.#reloading.then(async () => {
      this.#next = undefined;
      await this.#parts.reload(await this.#read());
    });
    this.#reloading = this.#next;
    return this.#next;
  }

  close(): Promise<void> {
    return this.#watch.close();
  }

  async #read(): Promise<ConfigReading | readonly Fault[]> {
    const { configPath: file, env } = this.#parts.settings;
    const files: string[] = [];
    const read = await readConfigFile({ file, env, onFile: (asked) => files.push(asked) });
    this.#files = files;
    if (read instanceof ConfigReading) this.#variableFiles = read.variableFiles;
    return read;
  }
}
