import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';

const THEME = readFileSync(new URL('../../../../src/sidecar/dashboard/theme.css', import.meta.url), 'utf8');

type Colour = readonly [number, number, number];
type Matrix = readonly [Colour, Colour, Colour];

/** Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; for linear sRGB. */
const VISIONS: Readonly<Record<string, Matrix>> = {
  full: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopic: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopic: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopic: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

/** Smallest difference of two moods in Oklab, times 100. A difference of 2 is just visible side by side. */
const MIN_DIFFERENCE = 9;

/** The colours of the moods in a scheme, as linear sRGB. */
function moodColours(css: string): Map<string, Colour> {
  return new Map(
    [...css.matchAll(/--mood-(\w+): #(\w\w)(\w\w)(\w\w);/gu)].map(([, name = '', ...parts]) => {
      const [red = 0, green = 0, blue = 0] = parts
        .map((part) => Number.parseInt(part, 16) / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return [name, [red, green, blue]];
    }),
  );
}

function times(matrix: Matrix, [one, two, three]: Colour): Colour {
  const row = ([first, second, third]: Colour): number => first * one + second * two + third * three;
  return [row(matrix[0]), row(matrix[1]), row(matrix[2])];
}

/** Source: https://bottosson.github.io/posts/oklab/ */
function toOklab(colour: Colour): Colour {
  const cones = times(
    [
      [0.4122214708, 0.5363325363, 0.0514459929],
      [0.2119034982, 0.6806995451, 0.1073969566],
      [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    colour,
  );
  return times(
    [
      [0.2104542553, 0.793617785, -0.0040720468],
      [1.9779984951, -2.428592205, 0.4505937099],
      [0.0259040371, 0.7827717662, -0.808675766],
    ],
    [Math.cbrt(cones[0]), Math.cbrt(cones[1]), Math.cbrt(cones[2])],
  );
}

function seen(matrix: Matrix, colour: Colour): Colour {
  const limit = (part: number): number => Math.min(1, Math.max(0, part));
  const [red, green, blue] = times(matrix, colour);
  return toOklab([limit(red), limit(green), limit(blue)]);
}

describe('the colours of the outcomes', () => {
  const dark = THEME.indexOf('@media (prefers-color-scheme: dark)');
  const schemes = { light: THEME.slice(0, dark), dark: THEME.slice(dark) };
  for (const [scheme, css] of Object.entries(schemes)) {
    for (const [vision, matrix] of Object.entries(VISIONS)) {
      test(`differ in the ${scheme} scheme, with ${vision} vision`, () => {
        const colours = [...moodColours(css)].map(([name, colour]) => ({ name, lab: seen(matrix, colour) }));
        assert.equal(colours.length, 7);
        for (const [at, one] of colours.entries()) {
          for (const other of colours.slice(at + 1)) {
            const [light, green, blue] = one.lab.map((part, axis) => part - (other.lab[axis] ?? 0));
            const difference = 100 * Math.hypot(light ?? 0, green ?? 0, blue ?? 0);
            assert.ok(difference >= MIN_DIFFERENCE, `${one.name} and ${other.name}: ${difference}`);
          }
        }
      });
    }
  }
});
