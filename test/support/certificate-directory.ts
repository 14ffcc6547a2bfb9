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

/** A directory with the certificate files of a TLS listener. */
export class CertificateDirectory {
  readonly path: string;
  readonly files: TlsFiles;

  private constructor(path: string, chainName: string | null) {
    this.path = path;
    this.files = {
      keyPath: join(path, 'key.pem'),
      certificatePath: join(path, 'cert.pem'),
      chainPath: chainName === null ? null : join(path, chainName),
    };
  }

  static async open(
    context: TestContext,
    identity?: Identity,
    chainName: string | null = null,
  ): Promise<CertificateDirectory> {
    const directory = new CertificateDirectory(await scratch(context), chainName);
    if (identity !== undefined) directory.write(identity);
    return directory;
  }

  write({ key, certificate }: Pick<Identity, 'key' | 'certificate'>): void {
    writeFileSync(this.files.keyPath, key);
    writeFileSync(this.files.certificatePath, certificate);
  }
}

/** Starts a TLS echo server. Returns its port. */
export async function serveTls(context: TestContext, credentials: ReloadableCredentials): Promise<number> {
  const server = createServer((socket) => {
    const secure = new TLSSocket(socket, { isServer: true, secureContext: credentials.context });
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

/** Connects a client that trusts only the certificate `ca`. */
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

/** Rejects unless the server echoes `text`. */
export async function expectEcho(socket: TLSSocket, text: string): Promise<void> {
  socket.write(text);
  const [answer]: unknown[] = await once(socket, 'data');
  equal(String(answer), text);
}
