import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";

/** Below those that the system gives to whoever asks for any: one of these could be somebody's before its program listens. */
const [portsFrom, portsTo] = [12_000, 32_000];

/**
 * Ports that this process has given out, each held by UDP for as long as it lives: no other test is given one whose program does not listen yet,
 * or is being started again.
 */
const held: Socket[] = [];

/** A port for a program that this test starts, and for no other. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = portsFrom + Math.floor(Math.random() * (portsTo - portsFrom));
    const hold = createSocket("udp4");
    hold.bind(port, "127.0.0.1");
    if (!(await succeeds(once(hold, "listening")))) {
      hold.close();
      continue;
    }
    held.push(hold.unref());
    const probe = createServer().listen(port, "127.0.0.1");
    if (!(await succeeds(once(probe, "listening")))) continue;
    probe.close();
    await once(probe, "close");
    return port;
  }
}

function succeeds(event: Promise<unknown>): Promise<boolean> {
  return event.then(
    () => true,
    () => false,
  );
}
