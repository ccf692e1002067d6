/** Something that must be shut down in order. */
export interface Closer {
  /** What it is, for the log. */
  readonly name: string;
  /** Finishes what is under way and frees everything. Called once. */
  close(): Promise<void>;
}

/**
 * Closes what was opened, last first. Start-up code adds each part as it comes up; if a later part fails, `close` unwinds
 * what is there.
 */
export class Closers {
  readonly #closers: Closer[] = [];
  #closing: Promise<void> | undefined;

  add(name: string, close: () => Promise<void> | void): void {
    this.#closers.push({ name, close: async () => close() });
  }

  /**
   * Closes everything, once; later calls wait for the first.
   *
   * @param onError told of every part that failed to close; the others are closed all the same.
   */
  close(onError: (name: string, error: unknown) => void): Promise<void> {
    this.#closing ??= this.#closeAll(onError);
    return this.#closing;
  }

  async #closeAll(onError: (name: string, error: unknown) => void): Promise<void> {
    for (let closer = this.#closers.pop(); closer !== undefined; closer = this.#closers.pop()) {
      try {
        await closer.close();
      } catch (error) {
        onError(closer.name, error);
      }
    }
  }
}
