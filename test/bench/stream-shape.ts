/** What the upstream's streams are like. */
export interface StreamShape {
  readonly chunkCount: number;
  readonly pauseMs: number;
}

export const usualShape: StreamShape = { chunkCount: 50, pauseMs: 20 };

/** How a body asks the upstream for a stream of a shape; no field that anybody else knows. */
export const shapeField = "bench_stream";

export function shapeText({ chunkCount, pauseMs }: StreamShape): string {
  return `${chunkCount}x${pauseMs}`;
}

/** @param beginning of a body. @returns undefined: it asks for no stream. */
export function shapeIn(beginning: string): StreamShape | undefined {
  const [, chunkCount, pauseMs] = new RegExp(`"${shapeField}":"(\\d+)x(\\d+)"`).exec(beginning) ?? [];
  return chunkCount === undefined ? undefined : { chunkCount: Number(chunkCount), pauseMs: Number(pauseMs) };
}
