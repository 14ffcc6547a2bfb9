'use strict';

// Loaded before a program by `node --require`: older versions of Node.js cannot load its TypeScript sources, and say
// so in a way that hides the cause. For the same reason this file is plain JavaScript.

/** EX_CONFIG of sysexits.h; systemd does not restart after it. */
const EXIT_CODE = 78;

const required = require('../../package.json').devEngines.runtime.version.replace('>=', '');
const [major, minor] = required.split('.').map(Number);
const [foundMajor, foundMinor] = process.versions.node.split('.').map(Number);

if (foundMajor < major || (foundMajor === major && foundMinor < minor)) {
  process.stderr.write(
    `Node.js ${required} or newer is needed, but ${process.execPath} is ${process.versions.node}\n`,
  );
  process.exit(EXIT_CODE);
}
