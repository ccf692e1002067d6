/** Where alerts are delivered to in tests: real HTTP and SMTP servers that fail when told to. */

import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from "node:net";
import { text } from "node:stream/consumers";

/** What was posted. */
export interface Posted {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of every shape, and assert what is there.
  readonly body: any;
}

/** Slack, PagerDuty or anybody's webhook. */
export class HttpReceiver {
  readonly posted: Posted[] = [];
  /** What the next requests are answered with, then 200. 0: nothing at all. */
  readonly statuses: number[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async (req, res) => {
      const body = JSON.parse(await text(req));
      const status = this.statuses.shift() ?? 200;
      if (status === 0) return;
      if (status < 300) this.posted.push({ path: req.url ?? "", headers: req.headers, body });
      res.writeHead(status).end("ok");
    });
  }

  static async open(): Promise<HttpReceiver> {
    const receiver = new HttpReceiver();
    receiver.#server.listen(0, "127.0.0.1");
    await once(receiver.#server, "listening");
    return receiver;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

/** What a mail server was given. */
export interface Mail {
  readonly from: string;
  readonly to: readonly string[];
  /** Headers and text. */
  readonly data: string;
  /** As AUTH PLAIN had it: "\0user\0password". */
  readonly login: string | undefined;
}

/** A mail server without TLS. */
export class SmtpReceiver {
  readonly mails: Mail[] = [];
  /** How many of the next mails are put off with 451. */
  failures = 0;
  /** How many connections there were. */
  connections = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server: TcpServer;

  private constructor() {
    this.#server = createTcpServer((socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      void this.#talk(socket);
    });
  }

  static async open(): Promise<SmtpReceiver> {
    const receiver = new SmtpReceiver();
    receiver.#server.listen(0, "127.0.0.1");
    await once(receiver.#server, "listening");
    return receiver;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #talk(socket: Socket): Promise<void> {
    let mail = { from: "", to: [] as string[], data: "" };
    let login: string | undefined;
    let inData = false;
    const say = (line: string) => socket.write(`${line}\r\n`);
    say("220 test ESMTP");
    for await (const line of linesOf(socket)) {
      if (inData) {
        if (line !== ".") mail.data += `${line}\n`;
        else {
          inData = false;
          this.mails.push({ ...mail, login });
          say("250 kept");
        }
        continue;
      }
      const [, verb = "", rest = ""] = /^(\w+) ?(.*)$/.exec(line) ?? [];
      if (verb === "EHLO") socket.write("250-test\r\n250 AUTH PLAIN\r\n");
      else if (verb === "AUTH") {
        login = Buffer.from(rest.replace("PLAIN ", ""), "base64").toString();
        say("235 welcome");
      } else if (verb === "MAIL" && this.failures > 0) {
        this.failures--;
        say("451 later");
      } else if (verb === "MAIL") {
        mail = { from: addressIn(rest), to: [], data: "" };
        say("250 fine");
      } else if (verb === "RCPT") {
        mail.to.push(addressIn(rest));
        say("250 fine");
      } else if (verb === "DATA") {
        inData = true;
        say("354 go on");
      } else if (verb === "QUIT") {
        say("221 bye");
        socket.end();
      } else say("250 fine");
    }
  }
}

function addressIn(text: string): string {
  return /<(.*)>/.exec(text)?.[1] ?? "";
}

async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let rest = "";
  try {
    for await (const chunk of socket) {
      const lines = `${rest}${chunk}`.split("\r\n");
      rest = lines.pop() ?? "";
      yield* lines;
    }
  } catch {
    // Cut off by the other side or by close.
  }
}
