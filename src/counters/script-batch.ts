import { type ActiveSpan, activeSpan, withinSpans } from "../active-span.ts";
import type { Connection, Script } from "./connection.ts";

/** A share of a script's work. */
export interface Task {
  /** Appends its keys and arguments. */
  encode(keys: string[], args: (string | number)[]): void;
  /** Takes its part from the script's reply. `isLate`: after it had failed. */
  answer(reply: Reply, isLate: boolean): void;
  fail(error: unknown): void;
}

/** What travels with a call and needs no answer. */
export interface Rider {
  encode(keys: string[], args: (string | number)[]): void;
  answer(): void;
  fail(): void;
}

/** A script's reply, read number by number. */
export class Reply {
  /** The server's time in milliseconds, with which replies to takes begin. */
  readonly nowMs: number;
  readonly #numbers: readonly number[];
  #position = 1;

  constructor(numbers: readonly number[]) {
    this.nowMs = numbers[0] ?? 0;
    this.#numbers = numbers;
  }

  next(): number {
    const number = this.#numbers[this.#position];
    if (number === undefined) throw new Error("the script's reply is too short");
    this.#position += 1;
    return number;
  }
}

/** Redis does nothing else while a script runs, so one must not be long. */
const tasksPerCall = 256;

/** What one script call will carry. */
interface Batch {
  readonly shard: string;
  readonly tasks: Task[];
  /** The spans it is for, as far as they are told. */
  readonly served: ActiveSpan[];
}

/**
 * Gathers the tasks of one turn of the event loop and sends them as one script call per shard. A call costs the same
 * whether it carries one task or ten.
 */
export class ScriptBatch {
  readonly #connection: Connection;
  readonly #script: Script;
  readonly #ridersTo: ((shard: string) => readonly Rider[]) | undefined;
  #waiting: Batch[] = [];
  /** The last of them of each shard. Made anew and never cleared: a cleared Map's old table knows the new one, and keeps alive all that is in it. */
  #last = new Map<string, Batch>();

  /** @param parts.ridersTo what else a call takes along; the script then expects it first, and before its arguments the number of its keys. */
  constructor(parts: { connection: Connection; script: Script; ridersTo?: (shard: string) => readonly Rider[] }) {
    this.#connection = parts.connection;
    this.#script = parts.script;
    this.#ridersTo = parts.ridersTo;
  }

  /**
   * @param shard tasks of different shards must not share a call.
   * @param isUrgent sent before the caller's turn goes on, with whatever else is waiting, instead of at its end.
   */
  add(shard: string, task: Task, isUrgent = false): void {
    if (this.#waiting.length === 0) setImmediate(() => this.#flush());
    let batch = this.#last.get(shard);
    if (batch === undefined || batch.tasks.length === tasksPerCall) {
      batch = { shard, tasks: [], served: [] };
      this.#last.set(shard, batch);
      this.#waiting.push(batch);
    }
    batch.tasks.push(task);
    const span = activeSpan();
    if (span !== undefined) batch.served.push(span);
    if (isUrgent) queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    const batches = this.#waiting;
    this.#waiting = [];
    this.#last = new Map();
    for (const batch of batches) void this.#send(batch, this.#ridersTo?.(batch.shard));
  }

  async #send({ tasks, served }: Batch, riders: readonly Rider[] | undefined): Promise<void> {
    const keys: string[] = [];
    const args: (string | number)[] = [];
    if (riders !== undefined) {
      for (const rider of riders) rider.encode(keys, args);
      args.unshift(keys.length);
    }
    for (const task of tasks) task.encode(keys, args);
    const answer = (numbers: unknown, isLate: boolean) => {
      const reply = new Reply(numbers as readonly number[]);
      for (const task of tasks) task.answer(reply, isLate);
      for (const rider of riders ?? []) rider.answer();
    };
    const call = { script: this.#script, keys, args, taskCount: tasks.length };
    const late = (numbers: unknown) => answer(numbers, true);
    try {
      answer(await withinSpans(served, () => this.#connection.run(call, late)), false);
    } catch (error) {
      for (const task of tasks) task.fail(error);
      for (const rider of riders ?? []) rider.fail();
    }
  }
}
