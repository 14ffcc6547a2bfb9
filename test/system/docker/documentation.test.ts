import { equal, match } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { newPair } from '../../support/docker-clients.ts';
import { Container, DockerSandbox, LISTENING, ROOT, askDocker, withoutDocker } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { freePorts } from '../../support/listening.ts';
import { until } from '../../support/scratch.ts';

/** The first commands of a page of the documentation that name the image. */
function commandsOf(page: string): string {
  const text = readFileSync(join(ROOT, 'docs', page), 'utf8');
  const block = text.split('```sh\n').find((each) => each.startsWith('IMAGE=')) ?? '';
  return block.split('```')[0] ?? '';
}

describe('the documented commands without compose', { skip: withoutDocker }, () => {
  test('start a relay and its dashboard', async (t) => {
    const image = await buildImage();
    const name = new DockerSandbox().name('relay');
    t.after(async () => {
      await askDocker(['rm', '--force', '--volumes', name, `${name}-sidecar`]);
      await askDocker(['volume', 'rm', '--force', `${name}-usage`, `${name}-snapshots`]);
      await askDocker(['network', 'rm', name]);
    });
    const ports = await freePorts(3);
    /** Runs commands with names, ports and an image of this test. */
    const run = (commands: string): void => {
      const ours = commands
        .replace(/^IMAGE=.*$/mu, '')
        // The network and the container are both called `relay`; paths and the image are not meant.
        .replaceAll(/(?<=http:\/\/|(?<![\w/-]))relay(?=[\s:-])/gu, name)
        .replaceAll(/--publish (?:127\.0\.0\.1:)?\d+:/gu, () => `--publish 127.0.0.1:${ports.pop()}:`);
      const env = { ...process.env, IMAGE: image };
      const { status, stderr } = spawnSync('sh', ['-ec', ours], { encoding: 'utf8', env });
      equal(status, 0, `${ours}${stderr}`);
    };

    run(commandsOf('docker.md'));
    const relay = new Container(name);
    await relay.waitForLog(LISTENING);
    await using pair = await newPair(relay, ['tcp', 'websocket']);
    await pair.exchange(1000);

    run(commandsOf('sidecar.md'));
    const sidecar = new Container(`${name}-sidecar`);
    await until(async () => (await sidecar.inspect('{{.State.Health.Status}}')) === 'healthy');
    const dashboard = `http://127.0.0.1:${await sidecar.port(4004)}`;
    match(await (await fetch(dashboard)).text(), /^<!doctype html>/iu);
    // It knows the relay's state and its records.
    await until(async () =>
      /"relayed_bytes":2000\b/u.test(await (await fetch(`${dashboard}/live.json`)).text()),
    );
    const usage = await fetch(`${dashboard}/usage.json`);
    equal(usage.status, 200, await usage.text());
  });
});
