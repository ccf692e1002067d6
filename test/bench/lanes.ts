/** What a call is like in each lane. */
export interface Lane {
  readonly name: string;
  readonly bodyBytes: number;
  readonly isStream: boolean;
  /** Which key it is made with. */
  readonly key: "plain" | "governed";
  readonly connections: number;
}

export const lanes: readonly Lane[] = [
  { name: "plain, 1 KB", bodyBytes: 1_000, isStream: false, key: "plain", connections: 64 },
  { name: "governed, 1 KB", bodyBytes: 1_000, isStream: false, key: "governed", connections: 64 },
  { name: "governed, 20 KB", bodyBytes: 20_000, isStream: false, key: "governed", connections: 64 },
  { name: "governed, 200 KB", bodyBytes: 200_000, isStream: false, key: "governed", connections: 16 },
  { name: "governed stream", bodyBytes: 1_000, isStream: true, key: "governed", connections: 100 },
];

/** A body of about so many bytes. The flag comes first, where the upstream looks for it. */
export function bodyOf({ bodyBytes, isStream }: Lane): string {
  const text = "word ".repeat(Math.max(1, Math.floor((bodyBytes - 150) / 5)));
  return JSON.stringify({
    stream: isStream,
    model: "bench",
    max_tokens: 200,
    messages: [
      { role: "system", content: "You are a bench." },
      { role: "user", content: text },
    ],
  });
}
