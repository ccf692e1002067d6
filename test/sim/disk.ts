import type { JournalFile, JournalHost } from "../../src/keys/journal-host.ts";
import type { JournalOwner } from "../../src/keys/journal-owner.ts";
import type { Dice, World } from "./world.ts";

interface StoredFile {
  bytes: Buffer;
  size: number;
  /** So much survives the machine. */
  synced: number;
  mtimeMs: number;
}

/** A pod's disk: it outlives the pod's processes. It can be full, fail to sync, and lose what was not synced. */
export class Disk {
  readonly #world: World;
  readonly #files = new Map<string, StoredFile>();
  #process = 0;
  full = false;
  syncFails = false;

  constructor(world: World) {
    this.#world = world;
  }

  /** The disk as the next process sees it; those before are dead. */
  mount(): MountedDisk {
    this.#process++;
    return new MountedDisk(this, this.#world, this.#process);
  }

  get current(): number {
    return this.#process;
  }

  get files(): Map<string, StoredFile> {
    return this.#files;
  }

  /** The machine fails: of what was not synced an arbitrary part is gone. @returns whether anything was lost. */
  losePower(dice: Dice): boolean {
    let lost = false;
    for (const file of this.#files.values()) {
      const kept = dice.whole(file.synced, file.size);
      lost ||= kept < file.size;
      file.size = kept;
      file.synced = kept;
    }
    return lost;
  }
}

/** One process's access to the disk. Once the process is dead it changes nothing more. */
export class MountedDisk implements JournalHost {
  readonly #disk: Disk;
  readonly #world: World;
  readonly #process: number;
  #writesLeft = Number.POSITIVE_INFINITY;
  #onKill: () => void = () => {};

  constructor(disk: Disk, world: World, process: number) {
    this.#disk = disk;
    this.#world = world;
    this.#process = process;
  }

  /** Kills the process in the middle of its `count`th write from now. */
  killInWrite(count: number, onKill: () => void): void {
    this.#writesLeft = count;
    this.#onKill = onKill;
  }

  /** The process is not killed after all. */
  spare(): void {
    if (this.#writesLeft > 0) this.#writesLeft = Number.POSITIVE_INFINITY;
  }

  /** The process is dead. */
  kill(): void {
    this.#writesLeft = 0;
  }

  get #dead(): boolean {
    return this.#disk.current !== this.#process || this.#writesLeft <= 0;
  }

  makeDirectory(): void {}

  list(directory: string): readonly string[] {
    const prefix = `${directory}/`;
    return [...this.#disk.files.keys()].map((path) => path.slice(prefix.length));
  }

  stat(path: string): { size: number; mtimeMs: number } | undefined {
    return this.#disk.files.get(path);
  }

  create(path: string): JournalFile {
    if (this.#disk.files.has(path)) throw new Error(`EEXIST: ${path}`);
    const file = { bytes: Buffer.allocUnsafe(4_096), size: 0, synced: 0, mtimeMs: this.#world.nowMs };
    if (!this.#dead) this.#disk.files.set(path, file);
    return this.#open(file);
  }

  read(path: string, bytes: Buffer, position: number): number {
    const file = this.#disk.files.get(path);
    if (file === undefined) throw new Error(`ENOENT: ${path}`);
    return file.bytes.copy(bytes, 0, position, file.size);
  }

  append(path: string, bytes: Buffer): void {
    const file = this.#disk.files.get(path);
    if (file !== undefined) this.#write(file, bytes, 0);
    else this.create(path).write(bytes, 0);
  }

  rename(from: string, to: string): void {
    const file = this.#disk.files.get(from);
    if (file === undefined) throw Object.assign(new Error(`ENOENT: ${from}`), { code: "ENOENT" });
    if (this.#dead) return;
    this.#disk.files.delete(from);
    this.#disk.files.set(to, file);
  }

  remove(path: string): void {
    if (!this.#dead) this.#disk.files.delete(path);
  }

  sync(path: string): void {
    if (this.#disk.syncFails) throw new Error("EIO");
    const file = this.#disk.files.get(path);
    if (file !== undefined) this.#sync(file);
  }

  owner(nonce: string): JournalOwner {
    return { pid: this.#process, started: "1", nonce };
  }

  isAlive(owner: JournalOwner): boolean {
    return owner.pid === this.#process;
  }

  #open(file: StoredFile): JournalFile {
    return {
      write: (bytes, offset) => this.#write(file, bytes, offset),
      truncate: (size) => {
        if (!this.#dead) file.size = Math.min(file.size, size);
      },
      sync: () => this.#sync(file),
      syncSoon: (done) => {
        this.#world.after(3, "fsync", () => {
          if (this.#dead) return;
          const error = this.#disk.syncFails ? new Error("EIO") : null;
          if (error === null) this.#sync(file);
          done(error);
        });
      },
      close: () => {},
    };
  }

  #write(file: StoredFile, bytes: Buffer, offset: number): number {
    if (this.#dead) return bytes.length - offset;
    this.#writesLeft--;
    const whole = bytes.length - offset;
    const killed = this.#writesLeft <= 0;
    // Whoever dies in a write, or finds no space in it, has written a part of it.
    const taken = killed || this.#disk.full ? this.#world.dice.whole(0, whole) : whole;
    this.#add(file, bytes.subarray(offset, offset + taken));
    if (killed) {
      this.#onKill();
      return whole;
    }
    if (this.#disk.full) throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
    return taken;
  }

  #add(file: StoredFile, bytes: Buffer): void {
    if (file.size + bytes.length > file.bytes.length) {
      const larger = Buffer.allocUnsafe(2 * (file.size + bytes.length));
      file.bytes.copy(larger, 0, 0, file.size);
      file.bytes = larger;
    }
    bytes.copy(file.bytes, file.size);
    file.size += bytes.length;
    file.mtimeMs = this.#world.nowMs;
  }

  #sync(file: StoredFile): void {
    if (this.#disk.syncFails) throw new Error("EIO");
    if (!this.#dead) file.synced = file.size;
  }
}
