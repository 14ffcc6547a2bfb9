import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { makeIdentity } from '../../support/certificates.ts';
import type { Identity } from '../../support/certificates.ts';
import type { ComposeProject } from '../../support/compose.ts';
import type { Container } from '../../support/docker.ts';
import { buildDebian } from '../../support/docker-images.ts';
import { scratch } from '../../support/scratch.ts';

/** The name that all certificates have unless a test needs another one. */
const NAME = 'localhost';

const READY_TRIES = 600;
const READY_PAUSE_MS = 100;

/** A TLS proxy in front of the relay, and the certificate that its clients must trust. */
export interface TlsProxy {
  readonly service: string;
  readonly image: () => Promise<string>;
  readonly settings: (image: string, context: TestContext, name?: string) => Promise<Record<string, string>>;
  readonly certificate: (container: Container) => Promise<string>;
  /**
   * Reloads the certificate as the compose file documents, if that is possible after a renewal. Resolves with
   * the certificate to trust.
   */
  readonly reload: (
    project: ComposeProject,
    container: Container,
    settings: Readonly<Record<string, string>>,
  ) => Promise<string>;
}

export const CADDY: TlsProxy = {
  service: 'caddy',
  // The directories are those of the public image.
  image: () =>
    buildDebian(
      ['ca-certificates'],
      [
        // Debian 13 has Caddy 2.6, which lacks `stream_close_delay`; backports has a newer one. Apt may use
        // either format of sources.
        `RUN cd /etc/apt; if [ -e sources.list ]; then sed -n 's/ trixie main/ trixie-backports main/p' sources.list > sources.list.d/b.list; \
        else sed -i 's/^Suites: trixie .*/& trixie-backports/' sources.list.d/debian.sources; fi; \
        apt-get update && apt-get install --yes --no-install-recommends caddy/trixie-backports`,
        'ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data',
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]',
      ],
    ),
  // For names in `localhost` Caddy uses its own certificate authority.
  settings: (image, _context, name = NAME) => Promise.resolve({ CADDY_IMAGE: image, RELAY_DOMAIN: name }),
  certificate: async (container) => {
    await container.waitForLog(/certificate obtained successfully/u);
    return container.exec('cat', '/data/caddy/pki/authorities/local/root.crt');
  },
  reload: async (project, container) => {
    await project.run('kill', '--signal', 'USR1', 'caddy');
    await container.waitForLog(/successfully reloaded config/u);
    return CADDY.certificate(container);
  },
};

export const NGINX: TlsProxy = {
  service: 'nginx',
  image: () => buildDebian(['nginx-light']),
  settings: async (image, context, name) => ({
    NGINX_IMAGE: image,
    TLS_DIRECTORY: await certificateDirectory(context, makeIdentity(name)),
  }),
  certificate: (container) => container.exec('cat', '/etc/nginx/tls/fullchain.pem'),
  reload: async (project, container, { TLS_DIRECTORY: directory = '' }) => {
    // A new file replaces the old one, as with certbot and `install`.
    for (const name of ['privkey.pem', 'fullchain.pem']) rmSync(join(directory, name));
    writeCertificate(directory, makeIdentity());
    await project.run('exec', '-T', 'nginx', 'nginx', '-s', 'reload');
    const certificate = await NGINX.certificate(container);
    await untilAnswering(await container.port(443), certificate);
    return certificate;
  },
};

/** A directory with the files of a certificate authority, readable by the user in the container. */
export async function certificateDirectory(context: TestContext, identity: Identity): Promise<string> {
  const directory = await scratch(context);
  chmodSync(directory, 0o755);
  writeCertificate(directory, identity);
  return directory;
}

export function writeCertificate(directory: string, { key, certificate }: Identity): void {
  writeFileSync(join(directory, 'privkey.pem'), key);
  writeFileSync(join(directory, 'fullchain.pem'), certificate);
}

/** The HTTP status of a plain request. */
export function statusOf(port: number, path: string, ca: string, name = NAME): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const request = {
      host: '127.0.0.1',
      port,
      path,
      ca,
      servername: name,
      headers: { host: name },
    };
    get(request, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
}

/** Waits until the relay answers through the proxy, which may take a moment after both have started. */
export async function untilAnswering(port: number, certificate: string, name?: string): Promise<void> {
  let last: unknown;
  for (let tries = 0; tries < READY_TRIES; tries += 1) {
    try {
      last = await statusOf(port, '/', certificate, name);
      if (Number(last) < 500) return;
    } catch (error) {
      last = error;
    }
    await setTimeout(READY_PAUSE_MS);
  }
  throw new Error('no response through the proxy', { cause: last });
}
