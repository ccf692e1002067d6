import type { Secret } from "../secret.ts";

/** A Langfuse, and what it is told of. */
export interface LangfuseSettings {
  /** "https://cloud.langfuse.com", for instance. */
  readonly host: string;
  readonly publicKey: string;
  readonly secretKey: Secret;
  /** Whether it is told of what went well (`success_callback`), and of what failed (`failure_callback`). */
  readonly successes: boolean;
  readonly failures: boolean;
}

/** Who is told of calls, and what not. */
export interface CallbackConfig {
  /** Undefined: there is none. */
  readonly langfuse: LangfuseSettings | undefined;
  /** Whether nobody is told what was said (`turn_off_message_logging`). */
  readonly hidesContent: boolean;
  /** Whether providers are sent `traceparent` (`litellm_settings.forward_traceparent_to_llm_provider`). */
  readonly forwardTraceparent: boolean;
}
