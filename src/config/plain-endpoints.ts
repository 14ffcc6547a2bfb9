import { EndpointError, parseEndpoints } from '../net/endpoint.ts';
import type { BoundEndpoint, Endpoint } from '../net/endpoint.ts';
import { Refusal } from './environment.ts';

/** Endpoints of listeners that are for operators and their programs. Throws a Refusal, as in `values.ts`. */

const GRAMMAR =
  'endpoints like tcp:4003, tcp:4003:interface=127.0.0.1, tcp:4003:interface=\\:\\:1, ' +
  'unix:/run/status.sock:mode=660, separated by blanks';

/** Without TLS, and with addresses of their own, which health checks have to know. */
export function toPlainEndpoints(text: string): BoundEndpoint[] {
  return parse(text).map((endpoint) => {
    if (endpoint.kind === 'systemd')
      throw new Refusal(GRAMMAR, 'no socket of systemd is taken here, so that an address is needed');
    if (endpoint.kind === 'tcp' && endpoint.tls !== null)
      throw new Refusal(GRAMMAR, 'there is no TLS here, which is for the listeners that clients come to');
    return endpoint;
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
