import assert from 'node:assert/strict';
import { stripTypeScriptTypes } from 'node:module';
import { describe, test } from 'node:test';
import { readAssets, readPage } from '../../src/sidecar/assets.ts';
import { ask } from '../support/ask.ts';
import { startSidecar } from '../support/sidecar-fixture.ts';

const SCRIPT = 'text/javascript; charset=utf-8';
const STYLE = 'text/css; charset=utf-8';

/** The files that a browser loads for this file: URLs in HTML, imports of scripts and style sheets. */
function wantedBy(text: string): string[] {
  const mentions =
    /(?:src|href)="([^"]+)"|\bfrom\s*'([^']+)'|\bimport\s*\(?\s*'([^']+)'|@import\s+(?:url\()?['"]([^'"]+)/gu;
  return [...text.matchAll(mentions)].map((match) => match.slice(1).find((one) => one !== undefined) ?? '');
}

describe('the assets of the page', () => {
  const assets = readAssets();

  test('include everything that it loads, without other hosts', () => {
    const wanted = wantedBy(readPage()).filter((address) => address.startsWith('assets/'));
    assert.ok(wanted.length >= 2);
    const names = new Set<string>();
    const queue = wanted.map((address) => address.slice('assets/'.length));
    for (const name of queue) {
      if (names.has(name)) continue;
      names.add(name);
      const asset = assets.get(name);
      assert.ok(asset !== undefined, `no ${name}`);
      for (const address of wantedBy(asset.body)) {
        // A relative import. Type imports are removed.
        assert.match(address, /^\.\/[\w.-]+$/u, `${name} wants ${address}`);
        queue.push(address.slice(2));
      }
    }
    assert.ok(names.has('uplot.js') && names.has('uplot.css'));
    const unused = [...assets.keys()].filter((name) => !names.has(name));
    assert.deepEqual(unused, [], 'nobody loads them');
  });

  test('have no types in scripts, and the content type of their name', () => {
    for (const [name, { type, body }] of assets) {
      assert.match(name, /^[a-z][a-z-]*\.(?:ts|js|css)$/u);
      assert.equal(type, name.endsWith('.css') ? STYLE : SCRIPT, name);
      if (type === SCRIPT) assert.equal(stripTypeScriptTypes(body), body, name);
    }
  });

  test('are served unchanged to a browser', async (context) => {
    const { url } = await startSidecar(context, null);
    assert.equal((await ask(url, '/')).body.toString(), readPage());
    for (const [name, { type, body }] of assets) {
      const answer = await ask(url, `/assets/${name}`);
      assert.deepEqual([answer.status, answer.headers['content-type']], [200, type]);
      assert.equal(answer.body.toString(), body);
    }
  });
});
