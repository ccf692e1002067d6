import { type Pod, pause, type World } from "./world.ts";

/** A key that calls are made with. `name` is also how the provider's bill calls it. */
export interface TrafficKey {
  readonly name: string;
  readonly secret: string;
  readonly keyId: string;
}

/** How one call went. */
export interface Outcome {
  readonly key: string;
  readonly pod: number;
  readonly stream: boolean;
  /** When it was sent and how long it took to the first byte (monotonic, milliseconds). */
  readonly atMs: number;
  readonly firstByteMs: number;
  /** 0: no answer at all. */
  readonly status: number;
  /** The error's code, "" if there is none; "broken" when an answer that had begun did not end as it should. */
  readonly code: string;
}

/** One chat call, read to its end. */
export async function call(
  pod: Pod,
  key: Pick<TrafficKey, "name" | "secret">,
  fields: { model?: string; stream?: boolean; max_tokens?: number; user?: string } = {},
  headers: Readonly<Record<string, string>> = {},
): Promise<Pick<Outcome, "status" | "code" | "firstByteMs"> & { headers: Headers | undefined; message: string }> {
  const sentMs = performance.now();
  let firstByteMs = 0;
  try {
    const answer = await fetch(`${pod.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key.secret}`, "content-type": "application/json", ...headers },
      body: JSON.stringify({
        ...{ model: "quick", max_tokens: 20, user: key.name, messages: [{ role: "user", content: "Hello" }] },
        ...fields,
      }),
      signal: AbortSignal.timeout(30_000),
    });
    firstByteMs = performance.now() - sentMs;
    const { status, headers: answered } = answer;
    const text = await answer.text().catch(() => "");
    if (status === 200) {
      const isWhole = fields.stream === true ? text.endsWith("data: [DONE]\n\n") : text.endsWith("}");
      return { status, code: isWhole ? "" : "broken", firstByteMs, headers: answered, message: "" };
    }
    const { error } = JSON.parse(text) as { error: { code: string; message: string } };
    return { status, code: error.code, firstByteMs, headers: answered, message: error.message };
  } catch (error) {
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    return { status: 0, code: "no_answer", firstByteMs, headers: undefined, message: String(cause) };
  }
}

/** What traffic is made of. */
export interface TrafficParts {
  readonly world: World;
  readonly keys: readonly TrafficKey[];
  /** Between two calls of one caller, in milliseconds. */
  readonly pauseMs: number;
  /** Callers that try again elsewhere, as a well-behaved application does. Default false. */
  readonly persistent?: boolean;
}

/** Callers of every key at every pod, some of whole answers and some of streams, until they are told to stop. */
export class Traffic {
  readonly outcomes: Outcome[] = [];
  readonly #parts: TrafficParts;
  readonly #callers: Promise<void>[];
  #isOver = false;

  constructor(parts: TrafficParts) {
    this.#parts = parts;
    const pods = parts.world.pods.map((_, index) => index);
    this.#callers = pods.flatMap((pod) =>
      parts.keys.flatMap((key) => [this.#call(pod, key, false), this.#call(pod, key, true)]),
    );
  }

  /** Lets calls under way end. */
  async stop(): Promise<readonly Outcome[]> {
    this.#isOver = true;
    await Promise.all(this.#callers);
    return this.outcomes;
  }

  async #call(home: number, key: TrafficKey, stream: boolean): Promise<void> {
    const { world, pauseMs, persistent = false } = this.#parts;
    for (let count = 0; !this.#isOver; count++) {
      await pause(pauseMs * (0.5 + Math.random()));
      const model = stream && count % 3 === 0 ? "paced" : "quick";
      for (let attempt = 0; ; attempt++) {
        const pod = (home + attempt) % world.pods.length;
        const atMs = performance.now();
        const { status, code, firstByteMs } = await call(world.pod(pod), key, { model, stream });
        const isWorthIt = status === 0 || status === 503;
        if (persistent && isWorthIt && attempt < 6) {
          await pause(100 * (attempt + 1));
          continue;
        }
        this.outcomes.push({ key: key.name, pod, stream, atMs, firstByteMs, status, code });
        break;
      }
    }
  }
}

/** A figure below which the given part of `figures` lies. */
export function quantile(figures: readonly number[], part: number): number {
  const sorted = figures.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

/** How often each answer was given: "200 812, 429 budget_exceeded 31". */
export function tally(outcomes: readonly Outcome[]): string {
  const counts = new Map<string, number>();
  for (const { status, code } of outcomes) {
    const kind = `${status === 0 ? "" : `${status} `}${code}`.trim();
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts]
    .sort()
    .map(([kind, count]) => `${kind} ×${count}`)
    .join(", ");
}
