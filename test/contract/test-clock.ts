/**
 * A clock that stands still until the test advances it, so that a busy machine cannot make a timeout expire too
 * early. Timers of the relay run on the machine's clock and check the time on this one. Where a timer has fired
 * too early, it is set again: short timeouts in the test keep that short.
 */
export class TestClock {
  #nowMs = 0;

  readonly now = (): number => this.#nowMs;

  advance(ms: number): void {
    this.#nowMs += ms;
  }
}
