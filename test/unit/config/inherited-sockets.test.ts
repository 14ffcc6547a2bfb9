import { deepEqual, match } from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  NO_INHERITED_SOCKETS,
  findInheritedSocket,
  readInheritedSockets,
} from '../../../src/config/inherited-sockets.ts';

const OURS = { LISTEN_PID: '40', LISTEN_FDS: '3', LISTEN_FDNAMES: 'raw:web:web' };

/** The problem of a missing socket. */
function problemOf(environment: Readonly<Record<string, string>>, socket: number | string = 0): string {
  const found = findInheritedSocket(readInheritedSockets(environment, 40), socket);
  return 'problem' in found ? found.problem : `descriptor ${found.fd}`;
}

describe('sockets from systemd', () => {
  test('have descriptors from 3 on, and are found by index or name', () => {
    const sockets = readInheritedSockets(OURS, 40);
    deepEqual(sockets, { names: ['raw', 'web', 'web'], unavailableReason: null });
    deepEqual(findInheritedSocket(sockets, 0), { fd: 3 });
    deepEqual(findInheritedSocket(sockets, 2), { fd: 5 });
    deepEqual(findInheritedSocket(sockets, 'raw'), { fd: 3 });
  });

  test('need no names', () => {
    const sockets = readInheritedSockets({ LISTEN_PID: '40', LISTEN_FDS: '2' }, 40);
    deepEqual(sockets.names, ['unknown', 'unknown']);
    deepEqual(findInheritedSocket(sockets, 1), { fd: 4 });
  });

  test('are listed by name if the requested one is missing', () => {
    match(problemOf(OURS, 3), /no socket with index 3; there are 0 \(raw\), 1 \(web\), 2 \(web\)$/u);
    match(problemOf(OURS, 'tls'), /no socket with that name.*there are 0 \(raw\), 1 \(web\), 2 \(web\)$/u);
  });

  test("with the same name can't be selected by it", () => {
    match(problemOf(OURS, 'web'), /2 sockets with that name: use the index/u);
  });

  test('are none without systemd', () => {
    match(problemOf({}), /passed no sockets: start the relay with its \.socket unit/u);
    match(problemOf({ LISTEN_FDS: '1' }), /passed no sockets/u);
  });

  test('for another process are ignored, with an explanation', () => {
    for (const pid of ['1', '', '040', 'x']) {
      const problem = problemOf({ ...OURS, LISTEN_PID: pid });
      match(problem, /ExecStart= must run node directly, without npm, tini or a shell/u);
      match(problem, new RegExp(`process "${pid}" .*this one is 40`, 'u'));
    }
  });

  test('are none if their number is invalid', () => {
    for (const count of ['0', '', '-1', '1.5', '99999', '1e3', ' 1']) {
      match(problemOf({ ...OURS, LISTEN_FDS: count }), /LISTEN_FDS is "/u);
    }
  });

  test('are none for a program without socket activation', () => {
    deepEqual(findInheritedSocket(NO_INHERITED_SOCKETS, 0), {
      problem: NO_INHERITED_SOCKETS.unavailableReason,
    });
  });
});
