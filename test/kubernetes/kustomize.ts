import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stringify } from 'yaml';
import { ROOT } from '../support/docker.ts';
import { Manifests } from './manifests.ts';

/** What operators apply. */
export const KUBERNETES = join(ROOT, 'deploy', 'kubernetes');

export const OVERLAYS = ['base', 'overlays/minimal', 'overlays/production', 'overlays/cluster'];

export const COMPONENTS = [
  'nodeport',
  'loadbalancer',
  'ingress',
  'gateway-api',
  'networkpolicy',
  'podmonitor',
  'no-persistence',
].map((name) => `components/${name}`);

/** The first kustomize that all of it was tried with; it comes with kubectl 1.27. */
const OLDEST_KUSTOMIZE = 5;

/** Checks manifests against the API's own schema. It lies beside the project where that is worked on. */
const STRICT_CHECK = join(ROOT, '..', 'shared', 'tools', 'k8s-check.mjs');

/** Why nothing can be built here; false where it can. */
export const withoutKubectl = whyNoKubectl();

/** Why there can be no strict check here; false where there can. */
export const withoutStrictCheck = existsSync(STRICT_CHECK)
  ? false
  : 'needs the strict check of schemas: ../shared/tools/k8s-check.mjs beside the clone';

function whyNoKubectl(): string | false {
  const how = 'install kubectl 1.27 or newer';
  const { stdout, error } = spawnSync('kubectl', ['version', '--client'], { encoding: 'utf8' });
  if (error !== undefined) return `needs kubectl: ${how}`;
  const [, major = '0'] = /^Kustomize Version: v(\d+)\./mu.exec(stdout) ?? [];
  return Number(major) >= OLDEST_KUSTOMIZE ? false : `needs kustomize 5 in kubectl: ${how}`;
}

/** What `kubectl apply -k` would apply. Rejects with what kustomize complains of, warnings too. */
export async function build(directory: string): Promise<Manifests> {
  const { code, stdout, stderr } = await run('kubectl', ['kustomize', directory]);
  if (code !== 0 || stderr !== '') throw new Error(`kubectl kustomize ${directory}: ${stderr}`);
  return new Manifests(stdout);
}

/** The same of something in deploy/kubernetes. */
export function buildOurs(name: string): Promise<Manifests> {
  return build(join(KUBERNETES, name));
}

/** An operator's own kustomization, somewhere else. Paths in it are relative to deploy/kubernetes. */
export async function buildOwn({
  resources = [],
  components = [],
  ...more
}: Kustomization): Promise<Manifests> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'relay-test-')));
  try {
    const resolve = (name: string): string => relative(directory, join(KUBERNETES, name));
    const own = { resources: resources.map(resolve), components: components.map(resolve), ...more };
    writeFileSync(join(directory, 'kustomization.yaml'), stringify(own));
    return await build(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export interface Kustomization {
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
  readonly [field: string]: unknown;
}

/** What the strict check has to say; its last line counts. */
export async function checkStrictly({ text }: Manifests): Promise<string> {
  const { stdout, stderr } = await run(process.execPath, [STRICT_CHECK, '-'], text);
  return `${stdout}${stderr}`.trimEnd();
}

interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, args: readonly string[], input = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { cwd: ROOT }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
    // What has ended reads no more; what counts is how it ended.
    child.stdin?.on('error', () => undefined).end(input);
  });
}
