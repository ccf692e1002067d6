/** A sidecar that takes calls. */
export interface Sidecar {
  readonly host: string;
  readonly port: number;
  readonly adminPort: number;
  /** Reads the configuration now. */
  reload(): Promise<void>;
  /** Refuses new calls, lets those in flight finish, books everything, returns leased money. */
  close(): Promise<void>;
}
