import { equal, notEqual } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DockerSandbox, LISTENING, docker, withoutDocker } from '../../support/docker.ts';
import { buildClassic, buildImage } from '../../support/docker-images.ts';

/**
 * Every file of the image with mode, owner and size. Node's compile cache is left out because it may differ
 * from build to build.
 */
const FILES =
  'find /app /data -name .compile-cache -prune -o -type f -printf "%p %m %U:%G %s\\n" -o -printf "%p %m %U:%G\\n" | sort';

const CONFIGURATION =
  '{{json .Config.Env}} {{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Healthcheck}}';

const GRACE_SECONDS = 20;

describe('the Dockerfile', { skip: withoutDocker }, () => {
  test('builds the same image with the classic builder as with BuildKit', async () => {
    const [image, classic] = await Promise.all([buildImage(), buildClassic()]);
    notEqual(classic, image);
    const files = (of: string): Promise<string> =>
      docker('run', '--rm', '--entrypoint', 'sh', of, '-c', FILES);
    equal(await files(classic), await files(image));
    const configuration = (of: string): Promise<string> =>
      docker('image', 'inspect', '--format', CONFIGURATION, of);
    equal(await configuration(classic), await configuration(image));
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.run(classic, []);
    await relay.waitForLog(LISTENING);
    equal(await relay.stop(GRACE_SECONDS), 0);
  });
});
