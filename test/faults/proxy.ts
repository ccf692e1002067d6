import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** What a proxy does with bytes: hands them on, keeps them back, or resets every connection. */
type ProxyMode = "pass" | "blackhole" | "refuse";

/** A TCP proxy on 127.0.0.1 that misbehaves when told to. What it is told acts on open connections too. */
export class FaultProxy {
  /** Where new connections go to. */
  targetPort: number;
  /** Each way, in milliseconds. */
  latencyMs = 0;
  /** Says for each new connection after how many bytes to the client it is reset; undefined: never. */
  cutAfterBytes: () => number | undefined = () => undefined;
  /** Connections from clients: open now, the most at once, and ever. */
  readonly connections = { open: 0, peak: 0, total: 0 };
  /** Bytes from clients so far. */
  bytesUp = 0;
  #mode: ProxyMode = "pass";
  #gate: Promise<void> | undefined;
  #openGate = () => {};
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(targetPort: number) {
    this.targetPort = targetPort;
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  }

  static async start(targetPort: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(targetPort);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** "blackhole" keeps bytes back as a network does that drops packets: they arrive once it passes again. */
  set mode(mode: ProxyMode) {
    this.#mode = mode;
    this.#openGate();
    this.#gate = undefined;
    if (mode === "blackhole") {
      this.#gate = new Promise((resolve) => {
        this.#openGate = resolve;
      });
    }
    if (mode === "refuse") this.reset();
  }

  /** Resets all connections. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    this.mode = "pass";
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(client: Socket): void {
    this.connections.total++;
    this.connections.open++;
    this.connections.peak = Math.max(this.connections.peak, this.connections.open);
    // Gone as soon as the client is: what is kept back here does not count.
    let isOpen = true;
    for (const end of ["end", "close"]) {
      client.once(end, () => {
        if (isOpen) this.connections.open--;
        isOpen = false;
      });
    }
    if (this.#mode === "refuse") {
      client.resetAndDestroy();
      return;
    }
    const target = connect({ port: this.targetPort, host: "127.0.0.1", allowHalfOpen: true });
    const pair = [client, target];
    let bytesLeft = this.cutAfterBytes() ?? Number.POSITIVE_INFINITY;
    for (const socket of pair) {
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.once("close", () => {
        this.#sockets.delete(socket);
        for (const other of pair) if (other !== socket) other.destroy();
      });
    }
    this.#carry(client, target, (chunk) => {
      this.bytesUp += chunk.length;
      return chunk;
    });
    this.#carry(
      target,
      client,
      (chunk) => {
        bytesLeft -= chunk.length;
        return bytesLeft >= 0 ? chunk : chunk.subarray(0, Math.max(0, chunk.length + bytesLeft));
      },
      () => bytesLeft < 0 && client.resetAndDestroy(),
    );
  }

  /** In order, each piece as late as the latency says; nothing is lost when the sender ends. */
  #carry(from: Socket, to: Socket, seen: (chunk: Buffer) => Buffer, written: () => void = () => {}): void {
    let turn: Promise<void> = Promise.resolve();
    const inTurn = (step: () => void) => {
      const dueMs = performance.now() + this.latencyMs;
      turn = turn.then(async () => {
        const waitMs = dueMs - performance.now();
        if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
        while (this.#gate !== undefined) await this.#gate;
        if (!to.destroyed) step();
      });
    };
    from.on("data", (chunk: Buffer) =>
      inTurn(() => {
        const piece = seen(chunk);
        if (!to.write(piece)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
        written();
      }),
    );
    from.on("end", () => inTurn(() => to.end()));
  }
}
