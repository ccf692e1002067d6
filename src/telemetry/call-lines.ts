import { type Logger, symbols } from "pino";

/** What pino keeps behind its symbols, for those who write lines themselves. */
interface Insides {
  /** The beginning of a line, by the level's number. */
  readonly [symbols.lsCacheSym]: Readonly<Record<number, string>>;
  /** The time as a member. */
  readonly [symbols.timeSym]: () => string;
  /** The members that all lines of a logger have. */
  readonly [symbols.chindingsSym]: string;
  readonly [symbols.streamSym]: { write(line: string): void };
}

const infoLevel = 30;

/** Writes lines whose members are JSON already, as a pino logger writes them: it looks at each member of each line, and every call has one. */
export class CallLines {
  readonly #insides: Insides;

  constructor(logger: Logger) {
    this.#insides = logger as unknown as Insides;
  }

  /**
   * Writes a line of level `info`.
   *
   * @param members JSON, each with a comma before it; nothing secret in it, for it is not looked at.
   * @param message plain words of ours.
   */
  info(members: string, message: string): void {
    const inside = this.#insides;
    const head = inside[symbols.lsCacheSym][infoLevel] + inside[symbols.timeSym]() + inside[symbols.chindingsSym];
    inside[symbols.streamSym].write(`${head}${members},"msg":"${message}"}\n`);
  }
}
