import { Worker } from "node:worker_threads";
import type { Clock } from "../clock.ts";
import type { CountAnswer, CountJob, Encoding } from "./token-counter-worker.ts";

/** The longest a call waits for its tokens. Loading an encoding takes 0.4 s, so the first counts may come to nothing. */
const timeoutMs = 100;
/** So much is counted, which takes 20 to 200 ms; of the rest as many tokens are assumed as the counted part has. */
const countedCharsMax = 500_000;
/** So many counts may be under way, those included that nobody waits for any more. */
const jobsMax = 16;

/**
 * Counts tokens exactly, in a thread of its own: some texts take a tokenizer seconds. The thread begins with the first count, and has
 * some 80 MB for each encoding.
 */
export class TokenCounter {
  readonly #clock: Clock;
  readonly #waiting = new Map<number, (tokens: number | undefined) => void>();
  #worker: Worker | undefined;
  #lastId = 0;
  #unanswered = 0;

  constructor({ clock }: { clock: Clock }) {
    this.#clock = clock;
  }

  /** @returns undefined if that is not known soon enough. */
  async count(encoding: Encoding, texts: readonly string[]): Promise<number | undefined> {
    if (this.#unanswered >= jobsMax) return undefined;
    const { sample, share } = sampleOf(texts);
    const tokens = await this.#ask(encoding, sample);
    return tokens === undefined ? undefined : Math.ceil(tokens / share);
  }

  /** Ends the thread; counts that are under way come to nothing. */
  async close(): Promise<void> {
    const worker = this.#worker;
    this.#abandon();
    await worker?.terminate();
  }

  #ask(encoding: Encoding, texts: readonly string[]): Promise<number | undefined> {
    const id = ++this.#lastId;
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const cancel = this.#clock.after(timeoutMs, () => this.#finish(id, undefined));
    this.#waiting.set(id, (tokens) => {
      cancel();
      resolve(tokens);
    });
    this.#worker ??= this.#start();
    this.#unanswered += 1;
    this.#worker.postMessage({ id, encoding, texts } satisfies CountJob);
    return promise;
  }

  #finish(id: number, tokens: number | undefined): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(tokens);
  }

  #start(): Worker {
    const { href } = new URL("./token-counter-worker.ts", import.meta.url);
    // In the package both files are JavaScript.
    const worker = new Worker(new URL(import.meta.url.endsWith(".js") ? href.replace(/\.ts$/, ".js") : href));
    worker.unref();
    worker.on("message", ({ id, tokens }: CountAnswer) => {
      this.#unanswered -= 1;
      this.#finish(id, tokens);
    });
    // The next count begins another one; meanwhile calls go by the ratio.
    worker.on("error", () => this.#abandon());
    return worker;
  }

  #abandon(): void {
    this.#worker = undefined;
    this.#unanswered = 0;
    for (const id of [...this.#waiting.keys()]) this.#finish(id, undefined);
  }
}

/** The beginning of a long text, and which part of the whole it is. */
function sampleOf(texts: readonly string[]): { readonly sample: readonly string[]; readonly share: number } {
  const chars = texts.reduce((sum, text) => sum + text.length, 0);
  if (chars <= countedCharsMax) return { sample: texts, share: 1 };
  const sample: string[] = [];
  let left = countedCharsMax;
  for (const text of texts) {
    if (left <= 0) break;
    sample.push(text.slice(0, left));
    left -= text.length;
  }
  return { sample, share: countedCharsMax / chars };
}
