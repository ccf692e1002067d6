import type { BoardStore, Cooling, Figures, Post, Reading } from "./board-store.ts";
import { nothing, probationMs } from "./board-store.ts";
import { type Connection, loadScript } from "./connection.ts";
import { boardKey, type LivePods, podLifeMs, podsKey } from "./live-pods.ts";

const boardScript = loadScript(["./board-rows.lua", "./board.lua"]);
const coolingKey = "tollgate:{pods}:cooling";

/** Figures as the script has them. */
type Numbers = readonly number[];

/** What the script answers, as JSON. Lua has no empty lists: they come as empty maps. */
type Reply = readonly [
  totals: ArrayLike<Numbers | false>,
  cooling: Readonly<Record<string, readonly [id: string, remainingMs: number, code: string, status: number | null]>>,
];

/** Where the boards of all pods meet in Redis; one script an exchange. In a Cluster it is all on one node. */
export class RedisBoard implements BoardStore {
  readonly #connection: Connection;
  readonly #podId: string;
  readonly #halfLifeMs: number;
  readonly #pods: Pick<LivePods, "known">;

  /** @param parts.podId as the pod is counted among the live ones. */
  constructor(parts: { connection: Connection; podId: string; halfLifeMs: number; pods: Pick<LivePods, "known"> }) {
    this.#connection = parts.connection;
    this.#podId = parts.podId;
    this.#halfLifeMs = parts.halfLifeMs;
    this.#pods = parts.pods;
  }

  livePods(): number {
    return this.#pods.known ?? 1;
  }

  async exchange({ figures, cool, clear, ids }: Post): Promise<Reading> {
    const row = Object.fromEntries([...figures].map(([id, known]) => [id, numbersOf(known)]));
    const coolings = [...cool].map(([id, { remainingMs, code, status }]) => [id, remainingMs, code, status ?? null]);
    const times = [podLifeMs, this.#halfLifeMs, probationMs];
    const told = [row, coolings, clear].map((each) => JSON.stringify(each));
    const keys = [podsKey, boardKey, coolingKey];
    // An answer that comes late is of no use: the next exchange is soon, and tells the same.
    const reply = await this.#connection.run(
      { script: boardScript, keys, args: [this.#podId, ...times, ...told, ...ids] },
      () => {},
    );
    const [totals, cooling] = JSON.parse(String(reply)) as Reply;
    return { totals: ids.map((_, index) => figuresOf(totals[index] || undefined)), cooling: readCooling(cooling) };
  }
}

function numbersOf({ inFlight, requests, tokens, pace, firstToken }: Figures): Numbers {
  return [inFlight, requests, tokens, pace.sum, pace.count, firstToken.sum, firstToken.count];
}

function figuresOf(numbers: Numbers | undefined): Figures {
  if (numbers === undefined) return nothing;
  const [inFlight = 0, requests = 0, tokens = 0, paceSum = 0, paceCount = 0, firstSum = 0, firstCount = 0] = numbers;
  return {
    ...{ inFlight, requests, tokens },
    pace: { sum: paceSum, count: paceCount },
    firstToken: { sum: firstSum, count: firstCount },
  };
}

function readCooling(cooling: Reply[1]): Map<string, Cooling> {
  const entries = Object.values(cooling).map(
    ([id, remainingMs, code, status]) => [id, { remainingMs, code, status: status ?? undefined }] as const,
  );
  return new Map(entries);
}
