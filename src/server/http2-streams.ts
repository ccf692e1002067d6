import type { ServerHttp2Session } from "node:http2";

/** What node keeps of a session, as far as it is about its streams. */
interface SessionState {
  streams?: StreamTable;
  pendingStreams?: StreamSet;
}

/** A session's streams by their id, as node asks for them. */
export class StreamTable {
  readonly #byId: Record<number, unknown> = Object.create(null);
  size = 0;

  get(id: number): unknown {
    return this.#byId[id];
  }

  set(id: number, stream: unknown): this {
    if (!(id in this.#byId)) this.size += 1;
    this.#byId[id] = stream;
    return this;
  }

  delete(id: number): boolean {
    if (!(id in this.#byId)) return false;
    delete this.#byId[id];
    this.size -= 1;
    return true;
  }

  /** While they are gone through, streams may leave. */
  forEach(tell: (stream: unknown) => void): void {
    for (const stream of Object.values(this.#byId)) tell(stream);
  }
}

/** Streams that have no id yet, as node asks for them: hardly ever more than one. */
export class StreamSet {
  readonly #streams: unknown[] = [];

  get size(): number {
    return this.#streams.length;
  }

  add(stream: unknown): this {
    if (!this.#streams.includes(stream)) this.#streams.push(stream);
    return this;
  }

  delete(stream: unknown): boolean {
    const index = this.#streams.indexOf(stream);
    if (index === -1) return false;
    this.#streams.splice(index, 1);
    return true;
  }

  forEach(tell: (stream: unknown) => void): void {
    for (const stream of [...this.#streams]) tell(stream);
  }
}

/**
 * Has a session keep its streams in tables that let go of them. node's are a Map and a Set, and for the reason that Roster tells each stream
 * that was ever in them, with its call, lives until the whole heap is looked through.
 *
 * @returns false if node's insides are not as we know them; then they are left alone, and nothing but memory is lost.
 */
export function keepStreamsLightly(session: ServerHttp2Session): boolean {
  const symbol = Object.getOwnPropertySymbols(session).find(({ description }) => description === "state");
  const state = symbol && (session as unknown as Record<symbol, SessionState>)[symbol];
  if (state?.streams?.size !== 0 || state.pendingStreams?.size !== 0) return false;
  state.streams = new StreamTable();
  state.pendingStreams = new StreamSet();
  return true;
}
