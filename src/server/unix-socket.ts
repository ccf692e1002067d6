import { chmod, lstat, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";

/**
 * Listens on a unix socket of mode 0660. A socket file that a dead process left is removed; anything else at the path is an
 * error, as is a socket that somebody answers on.
 */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  await removeStale(path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
  await chmod(path, 0o660);
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isSocket()) throw new Error(`${path} exists and is not a socket.`);
  if (await answers(path)) throw new Error(`Another process listens on ${path}.`);
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
