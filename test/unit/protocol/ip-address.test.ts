import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { formatAddress, parseAddress } from '../../../src/protocol/ip-address.ts';

/** The text after parsing and formatting. */
function reprinted(text: string): string | null {
  const bytes = parseAddress(text);
  return bytes === null ? null : formatAddress(bytes);
}

describe('an address', () => {
  const cases: readonly (readonly [text: string, printed: string])[] = [
    ['0.0.0.0', '0.0.0.0'],
    ['192.0.2.1', '192.0.2.1'],
    ['255.255.255.255', '255.255.255.255'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8::1', '2001:db8::1'],
    ['2001:0db8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::FFFF:a01:203', '10.1.2.3'],
    ['0:0:0:0:0:ffff:10.1.2.3', '10.1.2.3'],
    ['::10.1.2.3', '::a01:203'],
    ['64:ff9b::10.1.2.3', '64:ff9b::a01:203'],
  ];
  for (const [text, printed] of cases) {
    test(`${text} is printed as ${printed}`, () => {
      assert.equal(reprinted(text), printed);
    });
  }

  const rejected = [
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4 ',
    '+1.2.3.4',
    '0x1.2.3.4',
  ];
  rejected.push(':', ':::', '1:', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7:8::');
  rejected.push(
    '12345::',
    'g::',
    '::1%eth0',
    '[::1]',
    '::1.2.3',
    '::1.2.3.04',
    '1.2.3.4::',
    '1:2:3:4:5:6:7:1.2.3.4',
  );
  for (const text of rejected) {
    test(`is not ${JSON.stringify(text)}`, () => {
      assert.equal(parseAddress(text), null);
    });
  }

  test('is printed in one form, for any bytes, and parsed back from it', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc
        .array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 })
        .map((all) => Uint8Array.from(all)),
    );
    fc.assert(
      fc.property(bytes, (address) => {
        const text = formatAddress(address);
        const read = parseAddress(text);
        assert.ok(read !== null);
        assert.equal(formatAddress(read), text);
        if (text.includes(':') || address.length === 4) assert.deepEqual(read, address);
      }),
    );
  });

  test('is valid exactly if Node accepts it, except for zones', () => {
    const text = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.string({
        unit: fc.constantFrom(':', ':', '.', '0', '1', '25', 'f', 'ffff', '::', 'g'),
        maxLength: 20,
      }),
      fc
        .tuple(fc.ipV6(), fc.nat({ max: 40 }), fc.constantFrom(':', '.', '0', '1', ''))
        .map(([address, at, char]) => address.slice(0, at) + char + address.slice(at + 1)),
    );
    fc.assert(
      fc.property(text, (candidate) =>
        assert.equal(parseAddress(candidate) !== null, isIP(candidate) !== 0, candidate),
      ),
      { numRuns: 3000 },
    );
  });
});
