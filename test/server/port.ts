import { connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { systemClock } from "../../src/clock.ts";
import { Health } from "../../src/server/health.ts";
import { type Listener, type ListenOptions, listen } from "../../src/server/listen.ts";

/** A listener on a free port for one test, and what it reported as bugs. */
export interface TestPort extends Listener {
  readonly url: string;
  readonly health: Health;
  readonly bugs: unknown[];
}

/** Opens a port that is closed with the test. Its fallback answers "METHOD /path" as plain text. */
export async function openPort(t: TestContext, options: Partial<ListenOptions> = {}): Promise<TestPort> {
  const bugs: unknown[] = [];
  const health = new Health((options.services ?? []).map((service) => service.typeName));
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    routes: () => {},
    services: [],
    fallback: (req, res) => {
      res.setHeader("x-request-id", "test");
      req.resume().on("end", () => res.end(`${req.method} ${req.url}`));
    },
    health,
    clock: systemClock,
    onBug: (error) => bugs.push(error),
    ...options,
  });
  t.after(() => listener.close(0));
  return {
    host: listener.host,
    port: listener.port,
    close: (graceMs) => listener.close(graceMs),
    url: `http://127.0.0.1:${listener.port}`,
    health,
    bugs,
  };
}

/** A bare connection whose received text can be waited for. */
export class Wire {
  readonly socket: Socket;
  text = "";
  #changed: () => void = () => {};
  #ended = false;

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.setNoDelay(true);
    this.socket.setEncoding("latin1");
    this.socket.on("data", (chunk: string) => {
      this.text += chunk;
      this.#changed();
    });
    const onEnd = () => {
      this.#ended = true;
      this.#changed();
    };
    this.socket.on("error", onEnd).on("end", onEnd).on("close", onEnd);
  }

  send(bytes: string | Buffer): void {
    this.socket.write(bytes);
  }

  /** Everything received, once the peer has hung up. */
  async ended(): Promise<string> {
    while (!this.#ended) await this.#change();
    return this.text;
  }

  /** What has been received by the time `pattern` is in it. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.text)) {
      if (this.#ended) throw new Error(`hung up before ${pattern}: ${this.text}`);
      await this.#change();
    }
    return this.text;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#changed = resolve;
    });
  }
}

/** The parts of an HTTP/1 response in text. */
export function readResponse(text: string): { status: number; headers: Map<string, string>; body: string } {
  const [head = "", body = ""] = text.split(/\r\n\r\n(.*)/s);
  const [statusLine = "", ...lines] = head.split("\r\n");
  const headers = new Map(
    lines.map((line): [string, string] => [line.split(": ")[0] ?? "", line.split(": ")[1] ?? ""]),
  );
  return { status: Number(statusLine.split(" ")[1]), headers, body };
}
