/** An answer a `mock_response` deployment gives, without any provider. */
export interface MockAnswer {
  /** The pieces a stream is cut into; a unary answer is their concatenation. */
  readonly chunks: readonly string[];
  /** Fails instead of answering. */
  readonly error:
    | { readonly status: number; readonly message: string; readonly retryAfterMs: number | undefined }
    | undefined;
  /** Before the first piece, in milliseconds. */
  readonly delayMs: number;
  /** Between pieces, in milliseconds. */
  readonly chunkDelayMs: number;
  /** Usage to report; absent: counted from the text. */
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number } | undefined;
}
