const endOfChunks = Buffer.from("\r\n0\r\n\r\n");

/** Finds the end of each answer on a connection; content-length or chunked. */
export class AnswerReader {
  #head = "";
  #left: number | undefined;
  #status = 0;
  #tail = Buffer.alloc(0);

  /** Whether nothing has come of the next answer. */
  get isFresh(): boolean {
    return this.#head === "" && this.#status === 0;
  }

  /** @returns the status once the answer is whole. */
  push(data: Buffer): number | undefined {
    let rest = data;
    if (this.#status === 0) {
      this.#head += data.toString("latin1");
      const end = this.#head.indexOf("\r\n\r\n");
      if (end === -1) return undefined;
      const head = this.#head.slice(0, end).toLowerCase();
      this.#status = Number(head.slice(9, 12));
      const length = /\r\ncontent-length: *(\d+)/.exec(head)?.[1];
      this.#left = length === undefined ? undefined : Number(length);
      rest = Buffer.from(this.#head.slice(end + (this.#left === undefined ? 2 : 4)), "latin1");
    }
    if (this.#left !== undefined) {
      this.#left -= rest.length;
      return this.#left <= 0 ? this.#end() : undefined;
    }
    this.#tail = Buffer.concat([this.#tail, rest]).subarray(-endOfChunks.length);
    return this.#tail.equals(endOfChunks) ? this.#end() : undefined;
  }

  #end(): number {
    const status = this.#status;
    this.#head = "";
    this.#status = 0;
    this.#left = undefined;
    this.#tail = Buffer.alloc(0);
    return status;
  }
}
