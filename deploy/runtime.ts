/**
 * How Node is run in the image. The Dockerfile has it too, which a test holds to this; what the bench measures is run so as well.
 */

/**
 * A young generation of semi-spaces of at most 8 MB each. By itself it was seen to grow to 109 MB in all with 2,000 streams open, and to stay
 * so when it was empty. With 16 MB, which V8 makes of 12, too, those take 16 MB more, and a governed call up to 5 % less CPU.
 */
export const nodeFlags: readonly string[] = ["--max-semi-space-size=8"];

/**
 * The C library's: all threads share one heap, and what is free at its end is given back from 1 MiB on. What is smaller than that comes from it, too:
 * to say the one ends the library's own judgement of the other, and then each body of 128 KiB had pages of its own, new ones for each call.
 */
export const environment: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: "1048576",
  MALLOC_TRIM_THRESHOLD_: "1048576",
};
