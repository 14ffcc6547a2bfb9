import { EndpointError, parseEndpoints } from '../net/endpoint.ts';
import type { BoundEndpoint, Endpoint } from '../net/endpoint.ts';
import { Refusal } from './environment.ts';

/** Endpoints of listeners that are for operators and their programs. Each function throws a Refusal, as in `values.ts`. */

const GRAMMAR =
  'endpoints like tcp:4003, tcp:4003:interface=127.0.0.1, tcp:4003:interface=\\:\\:1, ' +
  'unix:/run/status.sock:mode=660, separated by blanks';

/** Without TLS. */
export function toPlainEndpoints(text: string): Endpoint[] {
  const endpoints = parse(text);
  for (const endpoint of endpoints) {
    if (endpoint.kind !== 'unix' && endpoint.tls !== null) {
      throw new Refusal(GRAMMAR, 'there is no TLS here, which is for the listeners that clients come to');
    }
  }
  return endpoints;
}

/** Without TLS, and with addresses of their own: for a program that systemd passes no sockets. */
export function toOwnEndpoints(text: string): BoundEndpoint[] {
  return toPlainEndpoints(text).map((endpoint) => {
    if (endpoint.kind !== 'systemd') return endpoint;
    throw new Refusal(GRAMMAR, 'systemd passes no sockets here, so that an address is needed');
  });
}

function parse(text: string): Endpoint[] {
  try {
    return parseEndpoints(text);
  } catch (error) {
    if (error instanceof EndpointError) throw new Refusal(GRAMMAR, error.message);
    throw error;
  }
}
