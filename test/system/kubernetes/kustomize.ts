import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stringify } from 'yaml';
import { ROOT } from '../../support/docker.ts';
import { Manifests } from './manifests.ts';

/** Manifests that operators apply. */
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

/** The oldest supported kustomize; it comes with kubectl 1.27. */
const OLDEST_KUSTOMIZE = 5;

/**
 * Checks manifests against the API's own schema. The tool is next to the repository on development machines.
 */
const STRICT_CHECK = join(ROOT, '..', 'shared', 'tools', 'k8s-check.mjs');

/** Reason why nothing can be built here; false if it can. */
export const withoutKubectl = whyNoKubectl();

/** Reason why the strict check cannot run here; false if it can. */
export const withoutStrictCheck = existsSync(STRICT_CHECK)
  ? false
  : 'needs the strict check of schemas: ../shared/tools/k8s-check.mjs next to the clone';

function whyNoKubectl(): string | false {
  const how = 'install kubectl 1.27 or newer';
  const { stdout, error } = spawnSync('kubectl', ['version', '--client'], { encoding: 'utf8' });
  if (error !== undefined) return `needs kubectl: ${how}`;
  const [, major = '0'] = /^Kustomize Version: v(\d+)\./mu.exec(stdout) ?? [];
  return Number(major) >= OLDEST_KUSTOMIZE ? false : `needs kustomize 5 in kubectl: ${how}`;
}

/** Output of `kubectl apply -k`. Rejects with the errors of kustomize, including warnings. */
export async function build(directory: string): Promise<Manifests> {
  const { code, stdout, stderr } = await run('kubectl', ['kustomize', directory]);
  if (code !== 0 || stderr !== '') throw new Error(`kubectl kustomize ${directory}: ${stderr}`);
  return new Manifests(stdout);
}

/** The same for a directory in deploy/kubernetes. */
export function buildOurs(name: string): Promise<Manifests> {
  return build(join(KUBERNETES, name));
}

/** An operator's own kustomization in another directory. Its paths are relative to deploy/kubernetes. */
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

/** Output of the strict check; its last line is the verdict. */
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
    // A program that has ended does not read its input; its exit code is checked instead.
    child.stdin?.on('error', () => undefined).end(input);
  });
}
