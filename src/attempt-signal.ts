/** Ends with its call, or before it: an attempt that may be given up while the call goes on. */
export class AttemptSignal {
  readonly #abort = new AbortController();
  readonly #call: AbortSignal;
  readonly #onCallAborted = () => this.#abort.abort(this.#call.reason);

  /** @param call aborts when nobody wants the answer any more. */
  constructor(call: AbortSignal) {
    this.#call = call;
    if (call.aborted) this.#onCallAborted();
    else call.addEventListener("abort", this.#onCallAborted);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  abort(reason: unknown): void {
    this.#abort.abort(reason);
  }

  /** Lets go of the call. */
  release(): void {
    this.#call.removeEventListener("abort", this.#onCallAborted);
  }
}
