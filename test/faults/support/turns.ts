import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import type { TestContext } from 'node:test';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { WITH_FD_LIMIT } from './monitored-relay.ts';

const PROBE = pathToFileURL(join(import.meta.dirname, 'turn-probe.ts')).href;

/** The longest turn of the event loop, in milliseconds: elapsed time, and CPU time of the main thread. */
export interface Turns {
  readonly wallMs: number;
  readonly cpuMs: number;
}

/** A relay process whose turns of the event loop are measured. */
export class MeasuredRelay implements AsyncDisposable {
  readonly relay: RelayProcess;
  readonly #probePath: string;

  private constructor(relay: RelayProcess, probePath: string) {
    this.relay = relay;
    this.#probePath = probePath;
  }

  /** Starts it for the duration of the test, with a limit of 20,000 file descriptors. */
  static async startFor(
    context: TestContext,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<MeasuredRelay> {
    const measured = await MeasuredRelay.start(await scratch(context), settings);
    context.after(() => measured[Symbol.asyncDispose]());
    return measured;
  }

  /** The probe's socket is in `directory`. */
  static async start(
    directory: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<MeasuredRelay> {
    const probePath = join(directory, 'turns.sock');
    const relay = await RelayProcess.start(
      {
        RELAY_WEBSOCKET_LISTEN: 'tcp:0:interface=127.0.0.1',
        NODE_OPTIONS: `--import=${PROBE}`,
        TURN_PROBE_SOCKET: probePath,
        ...settings,
      },
      WITH_FD_LIMIT,
    );
    return new MeasuredRelay(relay, probePath);
  }

  /** The longest turn since the last call. */
  async longestTurn(): Promise<Turns> {
    const answer: unknown = JSON.parse(await text(connect(this.#probePath)));
    assert.ok(isTurns(answer));
    return answer;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.relay[Symbol.asyncDispose]();
  }
}

function isTurns(value: unknown): value is Turns {
  return typeof value === 'object' && value !== null && 'wallMs' in value && 'cpuMs' in value;
}
