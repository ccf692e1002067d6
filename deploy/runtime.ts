/**
 * How Node is run in the image. The Dockerfile has it too, which a test holds to this; what the bench measures is run so as well.
 */

/**
 * A young generation of at most 8 MB: by itself V8 lets it grow to 32, three times over, and gives none of it back. Smaller than 8 it is
 * collected before short-lived things are gone: they grow old, and memory and time are lost again.
 */
export const nodeFlags: readonly string[] = ["--max-semi-space-size=8"];

/** The C library's: all threads share one heap, and what is free at its end is given back from 128 KiB on. */
export const environment: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_TRIM_THRESHOLD_: "131072",
};
