import type { Clock } from "../clock.ts";
import type { CallEvent } from "../completion.ts";
import type { Flight } from "./flights.ts";
import type { AnswerRecorder } from "./kept-answer.ts";

interface RecordingParts {
  readonly key: string;
  /** The group that was asked for. */
  readonly modelGroup: string;
  /** Undefined: the answer is not to be kept. */
  readonly recorder: AnswerRecorder | undefined;
  /** Equal calls that wait for it; undefined: none can. */
  readonly flight: Flight | undefined;
  /** Keeps it. */
  readonly put: (answer: Buffer) => void;
  readonly clock: Clock;
}

/** A new answer on its way to the one who asked: kept once it is whole, and given to those who wait for it. */
export class Recording {
  readonly #parts: RecordingParts;
  #recorder: AnswerRecorder | undefined;
  #deploymentId = "";

  constructor(parts: RecordingParts) {
    this.#parts = parts;
    this.#recorder = parts.recorder;
  }

  /** Takes an event down. @returns the event, to be handed on; then call `goOn`. */
  pass(event: CallEvent): CallEvent {
    const { key, modelGroup, flight, put, clock } = this.#parts;
    let passed = event;
    if (event.type === "accepted") {
      this.#deploymentId = event.deploymentId;
      passed = { ...event, cache: { key, isHit: false } };
      // Another group's answer, a fallback's: who may ask for this group may not be allowed that one.
      if (event.modelGroup !== modelGroup) this.#recorder = undefined;
    }
    const recorder = this.#recorder;
    recorder?.add(event);
    if (recorder === undefined || recorder.isTooLarge) flight?.end(undefined);
    if (event.type === "settled") {
      const entry = recorder?.end(event, { keptAtMs: clock.nowMs(), deploymentId: this.#deploymentId });
      if (entry !== undefined) put(entry);
      flight?.end(entry);
    }
    flight?.holdUp();
    return passed;
  }

  /** Whoever was handed an event asks for the next. */
  goOn(): void {
    this.#parts.flight?.goOn();
  }

  /** Nothing more comes. An answer that is not whole is nobody's. */
  close(): void {
    this.#parts.flight?.end(undefined);
  }
}
