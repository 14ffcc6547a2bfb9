import { equal, ok } from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { TLSSocket, connect } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import type { TlsFiles } from '../../src/config/endpoint.ts';
import type { ReloadableCredentials } from '../../src/transport/tls-credentials.ts';
import type { Identity } from './certificates.ts';
import { scratch } from './scratch.ts';

/** A directory with the files of a listener. */
export class CertificateDirectory {
  readonly directory: string;
  readonly files: TlsFiles;

  private constructor(directory: string, chainName: string | null) {
    this.directory = directory;
    this.files = {
      keyPath: join(directory, 'key.pem'),
      certificatePath: join(directory, 'cert.pem'),
      chainPath: chainName === null ? null : join(directory, chainName),
    };
  }

  static async open(
    context: TestContext,
    identity?: Identity,
    chainName: string | null = null,
  ): Promise<CertificateDirectory> {
    const place = new CertificateDirectory(await scratch(context), chainName);
    if (identity !== undefined) place.put(identity);
    return place;
  }

  put({ key, certificate }: Pick<Identity, 'key' | 'certificate'>): void {
    writeFileSync(this.files.keyPath, key);
    writeFileSync(this.files.certificatePath, certificate);
  }
}

/** A server that repeats what it is told, and its port. */
export async function serveTls(context: TestContext, certificates: ReloadableCredentials): Promise<number> {
  const server = createServer((socket) => {
    const secure = new TLSSocket(socket, { isServer: true, secureContext: certificates.context });
    secure.on('error', () => undefined);
    secure.pipe(secure);
    context.after(() => secure.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  const address = server.address();
  ok(address !== null && typeof address === 'object');
  return address.port;
}

/** A client that trusts one certificate alone. */
export async function tlsClient(
  context: TestContext,
  port: number,
  ca: string,
  options: ConnectionOptions = {},
): Promise<TLSSocket> {
  const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca, ...options });
  context.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

/** Rejects unless what it says comes back. */
export async function echoes(socket: TLSSocket, text: string): Promise<void> {
  socket.write(text);
  const [answer]: unknown[] = await once(socket, 'data');
  equal(String(answer), text);
}
