/** What the upstream's streams are like. */
export const chunkCount = 50;
export const chunkPauseMs = 20;
